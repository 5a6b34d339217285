"""Memory for batches: as TensorFlow and a device on the CPU take it without a copy, used again.

A batch in fresh memory costs the kernel a page at a time, and a copy a twentieth of making it.
"""

import itertools
import math
import threading
import weakref

import numpy as np

_ALIGNED = 64  # bytes; TensorFlow and XLA's CPU devices use such memory as it is, copy other


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, which TensorFlow and a device on the CPU use without a copy: not to be written
    to once they have it."""
    return _part(np.zeros(math.prod(shape) + _ALIGNED, np.uint8), shape)


class Buffers:
    """Aligned arrays of one shape, uint8. The memory of one that nothing refers to any more, no
    view of it, no tensor, no device that reads it, serves the next."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[memoryview] = []

    def take(self) -> np.ndarray:
        """An array that has not been written to, or still has what an earlier one had."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(math.prod(self._shape) + _ALIGNED, np.uint8).data
        # Of a memoryview, so that views of this array refer to it, not past it to the memory.
        whole = np.frombuffer(memory, np.uint8)
        weakref.finalize(whole, self._free.append, memory).atexit = False
        return _part(whole, self._shape)


class UnderWay:
    """Batches that several threads fill, each a part of them, by number.

    Args:
      shape: of a batch.
      most: that are begun and not finished. Of more the oldest are forgotten: iterators that were
        left never finish theirs.
    """

    def __init__(self, shape: tuple[int, ...], most: int) -> None:
        self._buffers, self._batches = Buffers(shape), dict[int, np.ndarray]()
        self._most = most
        self._numbers, self._lock = itertools.count(), threading.Lock()

    def begin(self) -> int:
        """The number of one more."""
        with self._lock:
            number = next(self._numbers)
            self._batches[number] = self._buffers.take()
            if len(self._batches) > self._most:
                del self._batches[min(self._batches)]
            return number

    def __getitem__(self, number: int) -> np.ndarray:
        """A batch that was begun; raises KeyError where it was forgotten."""
        return self._batches[number]

    def finish(self, number: int) -> np.ndarray:
        """The batch, which is its caller's from now on."""
        with self._lock:
            return self._batches.pop(number)


def _part(memory: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + math.prod(shape)].reshape(shape)
