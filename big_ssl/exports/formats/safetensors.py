"""Arrays by torch's names, with a module of PyTorch that takes them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from big_ssl import config as config_lib
from big_ssl.errors import InputError
from big_ssl.exports.model import Model
from big_ssl.models import TorchTwin
from big_ssl.weights.files import METADATA

REQUIREMENTS = ('numpy', 'pillow', 'safetensors', 'torch')
AXES = 'NCHW'
BAKES = False


def write(model: Model, folder: Path) -> None:
    """`model.safetensors`, `torch_network.py` and, of what that is made, `network.json`."""
    keys = config_lib.open_keys(model.backbone.name)
    metadata = {'format': 'pt', METADATA: json.dumps({key: model.settings[key] for key in keys})}
    (folder / 'model.safetensors').write_bytes(save(state_dict(model), metadata))
    shutil.copy(twin(model).source, folder / 'torch_network.py')
    mean, deviation = model.normalization
    made_of = {'fields': fields(model), 'mean': list(mean), 'deviation': list(deviation)}
    (folder / 'network.json').write_text(json.dumps(made_of, indent=2))


def twin(model: Model) -> TorchTwin:
    """The network in PyTorch; raises InputError where there is none."""
    if (found := model.backbone.TORCH) is None:
        raise InputError(
            f'--format: model.name={model.backbone.name} has no TORCH, a twin in PyTorch; take '
            'stablehlo, savedmodel or orbax'
        )
    return found


def fields(model: Model) -> dict[str, Any]:
    """What its `Network` is made of."""
    of_encoder = {name: model.network[name] for name in twin(model).arguments}
    return {'outputs': model.task.outputs if model.task else 0, **of_encoder}


def state_dict(model: Model) -> dict[str, np.ndarray]:
    """Arrays by torch's names and in its order of axes."""
    found = twin(model).state_dict(traverse_util.flatten_dict(model.variables))
    return {name: np.ascontiguousarray(array) for name, array in found.items()}
