"""Metrics of classification, computed for many weightings of the cases at once.

A weighting is a row of `weights`: how often each case counts (0, 1, 2, ...). A row of ones gives
the figure on the data themselves. Every metric maps weights [r, n] to values [r], in float64, and
is NaN in a row that does not define it. Weights are taken a few rows at a time, so the working
memory does not grow with r.

Binary metrics take `labels` [n] of 1 (positive) and 0 (negative); anything else, NaN above all, is
a missing label, and its case is left out.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, Num

_CHUNK_ELEMENTS = 2**22  # 32 MiB of float64 weights
_ROUNDING = 1e-9  # 0.9 * 10 negatives must mean 9 of them, whatever float64 makes of 0.9


def top_k_hits(
    labels: Int[np.ndarray, ' n'], scores: Float[np.ndarray, 'n k'], k: int = 1
) -> Bool[np.ndarray, ' n']:
    """Whether each label is among the k highest scores; of equal scores the first wins."""
    best = np.argsort(-scores, axis=1, kind='stable')[:, :k]
    return (best == labels[:, None]).any(axis=1)


def top_k_accuracy(
    labels: Int[np.ndarray, ' n'],
    scores: Float[np.ndarray, 'n k'],
    weights: Num[np.ndarray, 'r n'],
    k: int = 1,
) -> Float[np.ndarray, ' r']:
    """Share of cases whose label is among the k highest scores; of equal scores the first wins."""
    return _share(weights, top_k_hits(labels, scores, k), np.ones(len(labels)))


def balanced_accuracy(
    labels: Int[np.ndarray, ' n'],
    scores: Float[np.ndarray, 'n k'],
    weights: Num[np.ndarray, 'r n'],
) -> Float[np.ndarray, ' r']:
    """Mean recall over the classes that the replicate contains; of equal scores the first wins."""
    member = labels[:, None] == np.arange(scores.shape[1])[None, :]
    correct = scores.argmax(axis=1) == labels
    return _nanmean(_share(weights, correct[:, None] & member, member))


def auc(
    labels: Num[np.ndarray, ' n'],
    scores: Float[np.ndarray, ' n'],
    weights: Num[np.ndarray, 'r n'],
) -> Float[np.ndarray, ' r']:
    """Area under the ROC: the chance that a positive outscores a negative, ties counting half.

    Hanley & McNeil 1982 (the Mann-Whitney form). NaN without a positive or without a negative.
    """
    positives, negatives = _split(labels, scores)
    lower = np.searchsorted(scores[negatives], scores[positives], side='left')
    upper = np.searchsorted(scores[negatives], scores[positives], side='right')
    values = []
    for chunk in _chunks(weights):
        drawn = np.take(chunk, positives, axis=1).astype(np.float64)
        below = _cumulative(np.take(chunk, negatives, axis=1))
        won, tied_or_won = np.take(below, lower, axis=1), np.take(below, upper, axis=1)
        wins = (drawn * (won + tied_or_won)).sum(axis=1) / 2
        values.append(_ratio(wins, drawn.sum(axis=1) * below[:, -1]))
    return np.concatenate(values)


def threshold_at_specificity(
    labels: Num[np.ndarray, ' n'], scores: Float[np.ndarray, ' n'], specificity: float = 0.9
) -> float:
    """Smallest float64 t such that `score >= t` has at least this specificity on these data.

    With m = ceil(specificity * negatives), t is the float64 next above the m-th smallest score of
    a negative: cases that tie with that score are called negative. Above 1 if need be, which calls
    every case negative. NaN without a negative.
    """
    _, negatives = _split(labels, scores)
    if not len(negatives):
        return float('nan')
    m = int(np.ceil((specificity - _ROUNDING) * len(negatives)))
    if m == 0:
        return float('-inf')
    return float(np.nextafter(np.float64(scores[negatives[m - 1]]), np.inf))


def _split(
    labels: Num[np.ndarray, ' n'], scores: Float[np.ndarray, ' n']
) -> tuple[Int[np.ndarray, ' p'], Int[np.ndarray, ' q']]:
    """Indices of the positives, and of the negatives by ascending score."""
    negatives = np.flatnonzero(labels == 0)
    return np.flatnonzero(labels == 1), negatives[np.argsort(scores[negatives], kind='stable')]


def _chunks(weights: Num[np.ndarray, 'r n']) -> Iterator[Num[np.ndarray, 'chunk n']]:
    step = max(1, _CHUNK_ELEMENTS // max(1, weights.shape[1]))
    for start in range(0, max(1, len(weights)), step):
        yield weights[start : start + step]


def _cumulative(weights: Num[np.ndarray, 'r q']) -> Float[np.ndarray, 'r q+1']:
    """Running sum that starts at 0: entry i is the weight of the first i columns."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, dtype=np.float64, out=sums[:, 1:])
    return sums


def _share(
    weights: Num[np.ndarray, 'r n'], hits: np.ndarray, members: np.ndarray
) -> Float[np.ndarray, 'r ...']:
    """Weight of the hits over the weight of the members, hits and members being [n] or [n, k]."""
    hits, members = hits.astype(np.float64), members.astype(np.float64)
    chunks = (chunk.astype(np.float64) for chunk in _chunks(weights))
    return np.concatenate([_ratio(chunk @ hits, chunk @ members) for chunk in chunks])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN where the denominator is 0."""
    missing = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator != 0)


def _nanmean(values: Float[np.ndarray, 'r k']) -> Float[np.ndarray, ' r']:
    """Mean over the last axis without its NaNs; NaN, and no warning, where nothing is left."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1))
