"""How often each class occurs, and which classes occur often enough to average over.

Labels are class numbers [n], or 1, 0 and NaN (missing for that class alone) [n, k].
"""

import numpy as np
from jaxtyping import Float, Int, Num

MIN_POSITIVES = 10  # a class with fewer cases is shown, but is in no macro average


def targets_of(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'], classes: int
) -> Float[np.ndarray, 'n classes']:
    """1, 0 or NaN (missing) for each case and class."""
    if labels.ndim == 2:
        return labels.astype(np.float64)
    return (labels[:, None] == np.arange(classes)[None, :]).astype(np.float64)


def positives(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'], classes: int
) -> Int[np.ndarray, ' classes']:
    """Number of cases of each class."""
    return (targets_of(labels, classes) == 1).sum(axis=0)


def shares(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'], classes: int
) -> Float[np.ndarray, ' classes']:
    """Share of each class among the cases labelled for it; NaN where there are none."""
    labelled = (~np.isnan(targets_of(labels, classes))).sum(axis=0)
    missing = np.full(classes, np.nan)
    return np.divide(positives(labels, classes), labelled, out=missing, where=labelled > 0)


def counted_classes(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    classes: int,
    min_positives: int = MIN_POSITIVES,
) -> tuple[int, ...]:
    """Numbers of the classes for a macro AUC: with enough positives, and a negative; in order."""
    has_negative = (targets_of(labels, classes) == 0).any(axis=0)
    enough = positives(labels, classes) >= max(min_positives, 1)
    return tuple(np.flatnonzero(enough & has_negative).tolist())


def common_classes(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    others: Num[np.ndarray, ' m'] | Num[np.ndarray, 'm k'],
    classes: int,
    min_positives: int = MIN_POSITIVES,
) -> tuple[int, ...]:
    """Numbers of the classes that are counted in both of two splits, in order."""
    there = counted_classes(others, classes, min_positives)
    return tuple(i for i in counted_classes(labels, classes, min_positives) if i in there)
