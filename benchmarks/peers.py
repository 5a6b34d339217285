"""torchvision, whatever PyTorch its package was built beside."""

import importlib
from types import ModuleType

import torch

_KEPT: list[object] = []  # what is declared goes with its library


def torchvision() -> ModuleType:
    """Imports it; to be called before others do.

    Its package wants operators that a PyTorch for CPU may lack, and that nothing here calls.

    Raises:
      ImportError: it is not installed.
    """
    try:
        return importlib.import_module('torchvision')
    except RuntimeError:
        declared = torch.library.Library('torchvision', 'FRAGMENT')
        for name in ('nms', 'qnms'):
            declared.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        _KEPT.append(declared)
        return importlib.import_module('torchvision')
