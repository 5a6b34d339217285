"""Arrays that TensorFlow and a device on the CPU take as they are, without a copy."""

import math

import numpy as np

_ALIGNED = 64  # bytes; TensorFlow and XLA's CPU devices use such memory as it is, copy other


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, which TensorFlow and a device on the CPU use without a copy: not to be written
    to once they have it."""
    size = math.prod(shape)
    memory = np.zeros(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].reshape(shape)
