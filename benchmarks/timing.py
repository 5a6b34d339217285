"""How long a step takes: several steps between two looks at the clock, several times."""

import statistics
import time
from collections.abc import Callable, Sequence


def timed(run: Callable[[int], None], seconds: float, repeats: int) -> list[float]:
    """Seconds a step, `repeats` times.

    Args:
      run: so many steps, and waits for the last one to be computed.
      seconds: of all repeats together, about; at least one step each.
    """
    run(2)  # warms up
    count = max(round(seconds / repeats / _seconds(run, 2)), 1)
    return [_seconds(run, count) for _ in range(repeats)]


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        'median': statistics.median(samples),
        'low': min(samples),
        'high': max(samples),
    }


def _seconds(run: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return (time.perf_counter() - start) / count
