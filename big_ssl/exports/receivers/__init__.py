"""Programs that are copied beside exported weights; they run without big_ssl.

Each export has predict.py, and as runtime.py the one of its format.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from big_ssl.exports.model import Model

FOLDER = Path(__file__).parent


def load_torch_network() -> ModuleType:
    """The module torch_network.py, which needs PyTorch."""
    spec = importlib.util.spec_from_file_location('torch_network', FOLDER / 'torch_network.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def torch_settings(model: Model) -> dict[str, Any]:
    """What its `Network` is made of."""
    settings = {'stem': 'standard', 'padding': 'torch', **model.network}
    del settings['normalization']
    mean, deviation = model.normalization
    outputs = model.task.outputs if model.task else 0
    return settings | {'mean': list(mean), 'deviation': list(deviation), 'outputs': outputs}
