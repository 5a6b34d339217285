"""A graph of ONNX, for any number of images, made by PyTorch from the module that it would run."""

import contextlib
import io
import runpy
import warnings
from pathlib import Path
from typing import Any

from big_ssl.errors import InputError
from big_ssl.exports.formats import safetensors
from big_ssl.exports.model import Model

REQUIREMENTS = ('numpy', 'onnxruntime', 'pillow')
AXES = 'NCHW'
BAKES = True


def write(model: Model, folder: Path) -> None:
    """`model.onnx`: `images` [batch, 3, size, size] to `outputs` [batch, k].

    Raises:
      InputError: PyTorch or its exporter is not installed.
    """
    try:
        import onnxscript  # noqa: F401  torch.onnx needs it
        import torch
    except ImportError as error:
        raise InputError(f"--format=onnx needs pip install 'big_ssl[interop]': {error}") from None
    network = _network(model, torch)
    size = model.image_size
    dtype = torch.uint8 if model.baked else torch.float32
    images = torch.zeros((2, 3, size, size), dtype=dtype)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network,
            (images,),
            folder / 'model.onnx',
            input_names=['images'],
            output_names=['outputs'],
            dynamic_shapes={'images': {0: torch.export.Dim('batch')}},
            dynamo=True,
            external_data=False,
        )


def _network(model: Model, torch: Any) -> Any:
    source = safetensors.twin(model).source
    network = runpy.run_path(str(source))['Network'](**safetensors.fields(model))
    arrays = safetensors.state_dict(model)
    network.load_state_dict({name: torch.tensor(a) for name, a in arrays.items()})
    mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in model.normalization)

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            x = images.to(torch.float32) / 255 if model.baked else images
            x = self.network((x - mean) / deviation)
            if model.task is None or not model.baked:
                return x
            if model.task.uncertain_class:
                x = x.reshape(x.shape[0], -1, 3)
                return torch.sigmoid(x[..., 1] - x[..., 0])
            return torch.sigmoid(x) if model.task.multilabel else torch.softmax(x, dim=1)

    return Whole().eval()
