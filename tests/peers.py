"""Libraries of the extra `interop`; a test that asks for one is skipped where it is missing."""

import contextlib
from types import ModuleType

import pytest

REASON = 'needs the extra interop: make interop'


def torch() -> ModuleType:
    return pytest.importorskip('torch', reason=REASON)


def timm() -> ModuleType:
    torch()
    from benchmarks.peers import torchvision

    with contextlib.suppress(ImportError):
        torchvision()
    return pytest.importorskip('timm', reason=REASON)


def onnx() -> ModuleType:
    torch()
    pytest.importorskip('onnxscript', reason=REASON)
    return pytest.importorskip('onnxruntime', reason=REASON)
