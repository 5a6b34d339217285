"""Libraries of the extra `interop`; a test that asks for one is skipped where it is missing."""

from types import ModuleType

import pytest

REASON = 'needs the extra interop: make interop'


def torch() -> ModuleType:
    return pytest.importorskip('torch', reason=REASON)


def timm() -> ModuleType:
    """timm imports torchvision, whose package wants operators that a torch for CPU may lack."""
    library = torch().library
    try:
        return pytest.importorskip('timm', reason=REASON)
    except RuntimeError:
        declared = library.Library('torchvision', 'FRAGMENT')
        declared.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        declared.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        _KEPT.append(declared)
        return pytest.importorskip('timm', reason=REASON)


def onnx() -> ModuleType:
    torch()
    pytest.importorskip('onnxscript', reason=REASON)
    return pytest.importorskip('onnxruntime', reason=REASON)


_KEPT: list[object] = []  # what is declared goes with its library
