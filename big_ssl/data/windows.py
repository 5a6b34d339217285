"""From the range of a 16-bit image or a CT to the 256 levels that a network is given."""

import dataclasses

import numpy as np
from jaxtyping import Num, UInt8

from big_ssl.errors import InputError

FULL, MINMAX = 'full', 'minmax'
HINT = 'LOW,HIGH (values that become black and white), full (the range of 16 bits) or minmax'


@dataclasses.dataclass(frozen=True)
class Window:
    """Values at or below `low` are black, at or above `high` white, linear between.

    Attributes:
      kind: 'full' is 0 to 65,535; 'minmax' each image's own smallest and largest value; 'values'
        `low` and `high`.
      low, high: of 'values', in the image's own unit (Hounsfield units of a CT).
    """

    kind: str
    low: float = 0.0
    high: float = 65535.0

    def levels(self, values: Num[np.ndarray, '*shape']) -> UInt8[np.ndarray, '*shape']:
        """0 to 255 for each value, rounded; an image of one value is black under 'minmax'."""
        low, high = np.float32(self.low), np.float32(self.high)
        if self.kind == MINMAX:
            low, high = np.float32(values.min()), np.float32(values.max())
        scale = np.float32(255) / max(high - low, np.float32(1e-6))
        return np.rint(((values.astype(np.float32) - low) * scale).clip(0, 255)).astype(np.uint8)


def parse(text: str, key: str) -> Window:
    """The window that `text` says: 'full', 'minmax' or 'LOW,HIGH'.

    Args:
      key: of the setting, for the message.

    Raises:
      InputError: it is none of these.
    """
    if text in (FULL, MINMAX):
        return Window(text)
    try:
        low, high = map(float, text.split(','))
    except ValueError:
        raise InputError(f'{key}={text}: give {HINT}') from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f'{key}={text}: LOW must be below HIGH')
    return Window('values', low, high)
