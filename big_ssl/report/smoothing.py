"""The moving mean under which a long noisy line is drawn."""

import numpy as np
from jaxtyping import Float

_LONG = 200  # points of a line that may be drawn as its moving mean
_NOISY = 10.0  # total variation of such a line over its range; a cosine schedule has 2


def moving_mean(
    steps: Float[np.ndarray, ' p'], values: Float[np.ndarray, ' p']
) -> tuple[Float[np.ndarray, ' q'], Float[np.ndarray, ' q']] | None:
    """Means of windows of a fiftieth of the line, at their middles; None if it needs none."""
    if len(steps) < _LONG or np.abs(np.diff(values)).sum() < _NOISY * np.ptp(values):
        return None
    window = len(steps) // 50
    means = np.convolve(values, np.ones(window) / window, mode='valid')
    return steps[(window - 1) // 2 :][: len(means)], means
