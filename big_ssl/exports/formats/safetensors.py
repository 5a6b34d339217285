"""Arrays by the names of torchvision and timm, with a module of PyTorch that takes them."""

import json
import shutil
from pathlib import Path

import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from big_ssl.exports import receivers
from big_ssl.exports.model import Model
from big_ssl.weights import timm_bit_names, torch_names
from big_ssl.weights.files import METADATA

REQUIREMENTS = ('numpy', 'pillow', 'safetensors', 'torch')
AXES = 'NCHW'
BAKES = False


def write(model: Model, folder: Path) -> None:
    """`model.safetensors` and `torch_network.py`."""
    settings = {
        'model.padding': model.settings['model.padding'],
        'init_normalization': model.settings['init_normalization'],
    }
    metadata = {'format': 'pt', METADATA: json.dumps(settings)}
    (folder / 'model.safetensors').write_bytes(save(state_dict(model), metadata))
    shutil.copy(receivers.FOLDER / 'torch_network.py', folder)
    (folder / 'network.json').write_text(json.dumps(receivers.torch_settings(model), indent=2))


def state_dict(model: Model) -> dict[str, np.ndarray]:
    """Arrays by torch's names and in its order of axes."""
    names = timm_bit_names if model.settings['model.backbone'] == 'bit' else torch_names
    flat = traverse_util.flatten_dict(model.variables)
    return {
        names.name(path): np.ascontiguousarray(names.to_torch(path, array))
        for path, array in flat.items()
    }
