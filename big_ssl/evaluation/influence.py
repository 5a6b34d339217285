"""Figures with what each patient did to them: their first-order expansions over patients.

To first order a figure is the truth plus a sum over independent patients (Hampel 1974, The
Influence Curve and its Role in Robust Estimation), whatever its patients share: `intervals` reads
its variance off that sum. For an AUC it is the clustered variance of Obuchowski 1997,
Nonparametric Analysis of Clustered ROC Curve Data; without clusters DeLong's of 1988.

Labels of one class are 1 (positive) and 0 (negative); anything else, NaN above all, is a missing
label, and its case is left out. Patients are numbers from 0 on.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from big_ssl.evaluation import metrics

MIN_PATIENTS, MIN_EFFECTIVE = 4, 3.0  # in every group of cases that a figure compares
OF_HITS = 1.0
OF_RANKS = 1 / 3  # Mann & Whitney 1947: a random classifier's variance is (1/m + 1/n) / 12
_LARGEST_SHARE = 0.5  # of a group's cases; a patient who has more is not corrected for further
_FLAT = 1e-3  # least slope of a ROC: its negatives stay counted where it is flat


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure on p patients, whose cases lie in g groups (positives and negatives, classes).

    Attributes:
      value: the figure; NaN where the data do not define it.
      centre: where its interval is centred: at the value; for AUCs at that of the pairs of
        different patients, since a patient's own pairs tell nothing about the next patient.
      moved: by how much each patient moved the figure; they sum to about 0. Corrected for leverage
        (CR2 of Bell & McCaffrey 2002, Bias Reduction in Standard Errors for Linear Regression
        with Multi-stage Samples), so that the sum of squares is an unbiased variance.
      weights: how far the figure moves if all cases of a patient in a group are off by one.
      squares: sums over the same cases of their own weights' squares.
      spread: variance of what a case contributes, over that of a hit or miss with this mean.
      is_enough: whether `MIN_PATIENTS`, and by Kish 1965 `MIN_EFFECTIVE` ones of equal size, stand
        behind every group.
    """

    value: float
    centre: float
    moved: Float[np.ndarray, ' p']
    weights: Float[np.ndarray, 'p g']
    squares: Float[np.ndarray, 'p g']
    spread: float
    is_enough: bool


UNDEFINED = Figure(
    np.nan, np.nan, np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0)), OF_HITS, is_enough=False
)


@dataclasses.dataclass(frozen=True)
class _Part:
    """What the cases of one group do: `moved` and `weights` [n], both 0 outside the group."""

    moved: Float[np.ndarray, ' n']
    weights: Float[np.ndarray, ' n']


def share(
    hits: Bool[np.ndarray, ' n'], members: Bool[np.ndarray, ' n'], patients: Int[np.ndarray, ' n']
) -> Figure:
    """Share of the members that are hits."""
    if not members.any():
        return UNDEFINED
    value = float(hits[members].mean())
    return _figure(value, value, [_mean(hits, value, members)], patients, OF_HITS)


def top_k_accuracy(
    labels: Int[np.ndarray, ' n'],
    scores: Float[np.ndarray, 'n k'],
    patients: Int[np.ndarray, ' n'],
    k: int = 1,
) -> Figure:
    """Share of cases whose label is among the k highest scores; of equal scores the first wins."""
    return share(metrics.top_k_hits(labels, scores, k), np.ones(len(labels), bool), patients)


def balanced_accuracy(
    labels: Int[np.ndarray, ' n'],
    scores: Float[np.ndarray, 'n k'],
    patients: Int[np.ndarray, ' n'],
) -> Figure:
    """Mean recall over the classes that occur."""
    hits = metrics.top_k_hits(labels, scores)
    classes = [labels == label for label in np.unique(labels)]
    recalls = [float(hits[members].mean()) for members in classes]
    parts = [
        _scaled(_mean(hits, recall, members), 1 / len(classes))
        for recall, members in zip(recalls, classes)
    ]
    value = float(np.mean(recalls))
    return _figure(value, value, parts, patients, OF_HITS)


def auc(
    labels: Num[np.ndarray, ' n'], scores: Float[np.ndarray, ' n'], patients: Int[np.ndarray, ' n']
) -> Figure:
    """Area under the ROC: the chance that a positive outscores a negative, ties counting half."""
    return macro_auc(labels[:, None], scores[:, None], patients)


def macro_auc(
    targets: Num[np.ndarray, 'n k'],
    scores: Float[np.ndarray, 'n k'],
    patients: Int[np.ndarray, ' n'],
    *,
    exclusive: bool = False,
) -> Figure:
    """Mean of the classes' AUCs; undefined where one of them is.

    Args:
      targets: for each class 1, 0 or NaN.
      exclusive: a case is of one class at most. What it does as a positive and as a negative
        of the others then goes together; the findings of several labels count as independent
        where a working model is needed.
    """
    n, k = targets.shape
    if not k or not ((targets == 1).any(axis=0) & (targets == 0).any(axis=0)).all():
        return UNDEFINED
    values, centres = [], []
    roles: list[_Part] = []
    for target, score in zip(targets.T, scores.T):
        value, centre, parts = _one_auc(target, score, patients)
        values.append(value)
        centres.append(centre)
        roles += [_scaled(part, 1 / k) for part in parts]
    groups = None
    if exclusive:
        every = np.sum([role.weights for role in roles], axis=0)
        group = np.where(targets == 1, np.arange(1, k + 1), 0).max(axis=1)
        groups = [np.where(group == number, every, 0) for number in np.unique(group)]
    value, centre = float(np.mean(values)), float(np.mean(centres))
    return _figure(value, centre, roles, patients, OF_RANKS, groups)


def sensitivity(
    labels: Num[np.ndarray, ' n'],
    scores: Float[np.ndarray, ' n'],
    patients: Int[np.ndarray, ' n'],
    threshold: float,
) -> Figure:
    """Share of the positives with score >= threshold."""
    return share(scores.astype(np.float64) >= threshold, labels == 1, patients)


def specificity(
    labels: Num[np.ndarray, ' n'],
    scores: Float[np.ndarray, ' n'],
    patients: Int[np.ndarray, ' n'],
    threshold: float,
) -> Figure:
    """Share of the negatives with score < threshold."""
    return share(scores.astype(np.float64) < threshold, labels == 0, patients)


def sensitivity_at_specificity(
    labels: Num[np.ndarray, ' n'],
    scores: Float[np.ndarray, ' n'],
    patients: Int[np.ndarray, ' n'],
    specificity: float = 0.9,
) -> Figure:
    """Best sensitivity of any rule `score >= t` with at least this specificity on the same data.

    That the threshold is estimated too moves it by the slope of the ROC, taken between the ends
    of the specificity's own 95% interval (Woodruff 1952, Confidence Intervals for Medians and
    Other Position Measures).
    """
    positives, negatives = labels == 1, labels == 0
    if not positives.any() or not negatives.any():
        return UNDEFINED
    scores = scores.astype(np.float64)

    def reached(at: float) -> float:
        threshold = metrics.threshold_at_specificity(labels, scores, min(max(at, 0.0), 1.0))
        return float((scores[positives] >= threshold).mean())

    threshold = metrics.threshold_at_specificity(labels, scores, specificity)
    value, below = reached(specificity), scores < threshold
    cases = np.bincount(patients[negatives])
    half = 1.96 * np.sqrt(specificity * (1 - specificity) * (cases**2).sum()) / cases.sum()
    slope = (reached(specificity - half) - reached(specificity + half)) / (2 * half)
    parts = [
        _mean(scores >= threshold, value, positives),
        _scaled(_mean(below, float(below[negatives].mean()), negatives), max(slope, _FLAT)),
    ]
    return _figure(value, value, parts, patients, OF_HITS)


def difference(a: Figure, b: Figure) -> Figure:
    """a minus b, of two models on the same cases."""
    return dataclasses.replace(
        a, value=a.value - b.value, centre=a.centre - b.centre, moved=a.moved - b.moved
    )


def _mean(values: Num[np.ndarray, ' n'], mean: float, members: Bool[np.ndarray, ' n']) -> _Part:
    """The mean of the members' values."""
    weights = members / members.sum()
    return _Part(moved=(values - mean) * weights, weights=weights)


def _scaled(part: _Part, factor: float) -> _Part:
    return _Part(factor * part.moved, factor * part.weights)


def _one_auc(
    target: Num[np.ndarray, ' n'], score: Float[np.ndarray, ' n'], patients: Int[np.ndarray, ' n']
) -> tuple[float, float, list[_Part]]:
    """The AUC, that of pairs of different patients, and what positives and negatives do to it."""
    positive, negative = target == 1, target == 0
    rank = np.unique(score, return_inverse=True)[1]
    won, own_won, own = _wins(rank, patients, positive, negative)
    lost, own_lost, own_there = _wins(-rank, patients, negative, positive)
    pairs = positive.sum() * negative.sum()
    others = pairs - own.sum()
    value = won.sum() / pairs
    centre = (won - own_won).sum() / others if others else value
    parts = []
    for members, wins, opponents in (
        (positive, won - own_won, negative.sum() - own),
        (negative, lost - own_lost, positive.sum() - own_there),
    ):
        moved, weights = np.zeros(len(target)), members / members.sum()
        moved[members] = (wins - centre * opponents) / max(others, 1)
        parts.append(_Part(moved, weights))
    return float(value), float(centre), parts


def _wins(
    rank: Int[np.ndarray, ' n'],
    patients: Int[np.ndarray, ' n'],
    members: Bool[np.ndarray, ' n'],
    opponents: Bool[np.ndarray, ' n'],
) -> tuple[Float[np.ndarray, ' m'], Float[np.ndarray, ' m'], Int[np.ndarray, ' m']]:
    """For each member: opponents it outranks (ties half), those of its own patient among them, and
    how many opponents its patient has."""
    rank = rank - rank.min()
    stride = int(rank.max()) + 1
    keys = patients.astype(np.int64) * stride + rank  # by patient, then by rank
    everyone, within = np.sort(rank[opponents]), np.sort(keys[opponents])
    start = np.searchsorted(within, patients[members] * stride)
    end = np.searchsorted(within, (patients[members] + 1) * stride)
    return (
        _below(everyone, rank[members]),
        _below(within, keys[members]) - start,
        end - start,
    )


def _below(ascending: np.ndarray, values: np.ndarray) -> Float[np.ndarray, ' m']:
    """How many of `ascending` are less than each value, equal ones counting half."""
    less = np.searchsorted(ascending, values, side='left')
    return (less + np.searchsorted(ascending, values, side='right')) / 2


def _figure(
    value: float,
    centre: float,
    parts: Sequence[_Part],
    patients: Int[np.ndarray, ' n'],
    spread: float,
    groups: Sequence[Float[np.ndarray, ' n']] | None = None,
) -> Figure:
    """The parts summed over each patient's cases.

    Args:
      groups: the weights by groups that do not overlap, where those of the parts do.
    """
    count = int(patients.max()) + 1
    by_part = _by_patient([part.weights for part in parts], patients, count)
    moved = _by_patient([part.moved for part in parts], patients, count) * leverage(by_part)
    weights = [part.weights for part in parts] if groups is None else groups
    return Figure(
        value=value,
        centre=centre,
        moved=moved.sum(axis=1),
        weights=_by_patient(weights, patients, count),
        squares=_by_patient([each**2 for each in weights], patients, count),
        spread=spread,
        is_enough=_enough(by_part),
    )


def _by_patient(
    columns: Sequence[Float[np.ndarray, ' n']], patients: Int[np.ndarray, ' n'], count: int
) -> Float[np.ndarray, 'p g']:
    return np.stack([np.bincount(patients, column, count) for column in columns], axis=1)


def leverage(weights: Float[np.ndarray, 'p g']) -> Float[np.ndarray, 'p g']:
    """1 / sqrt(1 - h), with h a patient's share of a group: a mean is pulled towards its cases."""
    shares = weights / weights.sum(axis=0)
    return 1 / np.sqrt(1 - np.minimum(shares, _LARGEST_SHARE))


def _enough(weights: Float[np.ndarray, 'p g']) -> bool:
    effective = weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)
    counts = (weights > 0).sum(axis=0)
    return bool(counts.min() >= MIN_PATIENTS and effective.min() >= MIN_EFFECTIVE)
