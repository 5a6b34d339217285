"""Runs model.safetensors in PyTorch, by the module in torch_network.py."""

import json

import torch
from safetensors.torch import load_file
from torch_network import Network


def load(folder):
    """uint8 images [n, size, size, 3] to features or logits [n, k], as a function."""
    made_of = json.loads((folder / 'network.json').read_text(encoding='utf-8'))
    network = Network(**made_of['fields'])
    network.load_state_dict(load_file(folder / 'model.safetensors'))
    network.eval()
    mean, deviation = (torch.tensor(made_of[k]).view(1, 3, 1, 1) for k in ('mean', 'deviation'))

    @torch.no_grad()
    def run(images):
        x = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
        return network((x - mean) / deviation).numpy()

    return run
