"""Arrays whose memory is used again: a batch in fresh memory costs the kernel a page at a time."""

import math
import weakref

import numpy as np

_ALIGNED = 64  # bytes; XLA's devices on a CPU use such memory as it is, and copy other


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, which a device on the CPU uses without a copy: not to be written to then."""
    size = math.prod(shape)
    memory = np.zeros(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].reshape(shape)


class Buffers:
    """Arrays of one shape and dtype. The memory of one that nothing refers to any more, neither a
    view of it nor a device that reads it, serves the next."""

    def __init__(self, shape: tuple[int, ...], dtype: type) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._free: list[memoryview] = []

    def take(self) -> np.ndarray:
        """An array that has not been written to, or still has what an earlier one had."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(math.prod(self._shape) * self._dtype.itemsize, np.uint8).data
        # Of a memoryview, so that views of this array refer to it, not past it to the memory.
        whole = np.frombuffer(memory, self._dtype)
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return whole.reshape(self._shape)
