"""Methods with several runs on the same cases: their intervals and paired differences.

A method has R runs; each carries the pre-training that it began from, and several fine-tunings of
one pre-training are not replicates of the method. Patients and pre-trainings are resampled
together: every replicate draws patients, the same for all runs, and pre-trainings.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int, Num, Shaped

from big_ssl.evaluation import bootstrap, intervals, metrics

_ROUNDING = 1e-9  # replicates that differ by less are the same

Labels = Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k']  # class numbers, or 1, 0 and NaN by class


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of scores [n, k] in replicates: `metric(labels, scores, weights)` is [r].

    Attributes:
      values: the function, with weights [r, n] as in `metrics`.
      groups: from the labels, the sets of cases that it compares or averages over.
      groups_per_term: 2 for an AUC (positives and negatives) and means of AUCs, otherwise 1.
      by_rank: whether only the order of the scores within each class counts.
    """

    values: Callable[[Labels, np.ndarray, np.ndarray], np.ndarray]
    groups: Callable[[Labels], Sequence[Bool[np.ndarray, ' n']]]
    groups_per_term: int = 1
    by_rank: bool = False

    def __call__(
        self, labels: Labels, scores: Float[np.ndarray, 'n k'], weights: Num[np.ndarray, 'r n']
    ) -> Float[np.ndarray, ' r']:
        return self.values(labels, scores, weights)

    def support(self, labels: Labels, clusters: Shaped[np.ndarray, ' n']) -> intervals.Support:
        """The patients behind it."""
        groups = self.groups(labels)
        return intervals.support(clusters, groups, len(groups) // self.groups_per_term)


top1 = Metric(metrics.top_k_accuracy, lambda labels: [np.ones(len(labels), bool)])
balanced_accuracy = Metric(
    metrics.balanced_accuracy, lambda labels: [labels == label for label in np.unique(labels)]
)


def macro_auc(classes: Sequence[int]) -> Metric:
    """Mean AUC of exactly these classes, each against the rest; NaN where one of them is absent."""

    def values(labels: Labels, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.mean(
            [metrics.auc(_target(labels, i), scores[:, i], weights) for i in classes], axis=0
        )

    def groups(labels: Labels) -> list[np.ndarray]:
        return [_target(labels, i) == value for i in classes for value in (1, 0)]

    return Metric(values, groups, groups_per_term=2, by_rank=True)


def auc_of(i: int) -> Metric:
    """AUC of class i against the rest."""
    return macro_auc((i,))


@dataclasses.dataclass(frozen=True)
class Interval:
    """A method's mean over its pre-trainings with its 95% interval, NaN where there is none.

    `covers_pretraining` is False with one pre-training: another one is then outside what the
    interval speaks of.
    """

    value: float
    low: float
    high: float
    covers_pretraining: bool


@dataclasses.dataclass(frozen=True)
class Difference:
    """First method minus second; see `Interval`. The interval excludes 0 just if p < 0.05."""

    value: float
    low: float
    high: float
    p: float
    covers_pretraining: bool


def method_interval(
    labels: Labels,
    scores: Float[np.ndarray, 'R n k'],
    clusters: Shaped[np.ndarray, ' n'],
    metric: Metric,
    *,
    pretraining: Int[np.ndarray, ' R'] | Sequence[int],
    replicates: int = 1000,
    seed: int = 0,
) -> Interval:
    """Interval of a method on these cases' population, over patients and pre-trainings.

    `intervals.score_interval` with the variance and degrees of freedom of `_variance`: with one run
    it is `intervals.interval`.
    """
    weights = _weights(clusters, replicates, seed)
    units = _units(_replicated(metric, labels, scores, weights), pretraining)
    behind = metric.support(labels, clusters)
    value, covers = float(units[:, 0].mean()), len(np.unique(pretraining)) > 1
    if np.isnan(value) or not behind.is_enough:
        return Interval(value, float('nan'), float('nan'), covers)
    variance, freedom = _variance([units], behind, seed)
    low, high = intervals.score_interval(value, variance, behind.total, freedom)
    return Interval(value, low, high, covers)


def paired_difference(
    labels: Labels,
    scores_a: Float[np.ndarray, 'A n k'],
    scores_b: Float[np.ndarray, 'B n k'],
    clusters: Shaped[np.ndarray, ' n'],
    metric: Metric,
    *,
    pretraining_a: Int[np.ndarray, ' A'] | Sequence[int],
    pretraining_b: Int[np.ndarray, ' B'] | Sequence[int],
    same_pretrainings: bool = False,
    replicates: int = 1000,
    seed: int = 0,
) -> Difference:
    """Difference of two methods on the same cases, a minus b, by Student's t.

    Estimate +- t * bootstrap standard error, with the degrees of freedom of `_variance`. Nothing
    is said (NaN) where too few patients stand behind the metric or no replicate differs.

    Args:
      same_pretrainings: the codes name the same checkpoints in both methods, which are then drawn
        together (two ways of using one pre-training).

    Raises:
      ValueError: `same_pretrainings`, but the sets of codes differ.
    """
    weights = _weights(clusters, replicates, seed)
    a = _replicated(metric, labels, scores_a, weights)
    b = _replicated(metric, labels, scores_b, weights)
    counts = [len(np.unique(codes)) for codes in (pretraining_a, pretraining_b)]
    if same_pretrainings and set(pretraining_a) != set(pretraining_b):
        raise ValueError('same_pretrainings, but the methods have different ones')
    if same_pretrainings and counts[0] > 1:
        methods = [_means(a, pretraining_a) - _means(b, pretraining_b)]
    else:
        methods = [_units(a, pretraining_a), -_units(b, pretraining_b)]
    behind = metric.support(labels, clusters)
    value, covers = float(sum(units[:, 0].mean() for units in methods)), min(counts) > 1
    unknown = Difference(value, float('nan'), float('nan'), float('nan'), covers)
    if np.isnan(value) or not behind.is_enough:
        return unknown
    variance, freedom = _variance(methods, behind, seed)
    error = np.sqrt(variance)
    if error < _ROUNDING:
        return unknown
    half = scipy.stats.t.ppf(0.975, freedom) * error
    p = 2 * scipy.stats.t.sf(abs(value) / error, freedom)
    return Difference(
        value, float(max(value - half, -1)), float(min(value + half, 1)), float(p), covers
    )


def holm(p: Float[np.ndarray, ' m']) -> Float[np.ndarray, ' m']:
    """P-values adjusted for m comparisons; NaN stays NaN and does not count as a comparison.

    Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure: the i-th smallest of m,
    times m - i + 1, but no less than the one before and at most 1.
    """
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: (~np.isnan(p)).sum()]  # NaNs come last
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def labels_needed(fractions: Sequence[float], lows: Sequence[float], margin: float) -> float | None:
    """Smallest fraction of the labels that is not worse than all of them by `margin`, or None.

    Args:
      lows: for each fraction, the low end of the paired difference against the baseline with all
        labels; NaN never suffices.
    """
    return min((f for f, low in zip(fractions, lows) if low > -margin), default=None)


def _target(labels: Labels, i: int) -> Float[np.ndarray, ' n']:
    return labels[:, i] if labels.ndim == 2 else (labels == i).astype(np.float64)


def _weights(
    clusters: Shaped[np.ndarray, ' n'], replicates: int, seed: int
) -> Int[np.ndarray, 'r+1 n']:
    """The data themselves, then the replicates."""
    once = np.ones((1, len(clusters)), np.int32)
    return np.concatenate([once, bootstrap.cluster_weights(clusters, replicates, seed)])


def _replicated(
    metric: Metric, labels: Labels, scores: Float[np.ndarray, 'R n k'], weights: np.ndarray
) -> Float[np.ndarray, 'R r+1']:
    return np.stack([metric(labels, run, weights) for run in scores])


def _means(
    values: Float[np.ndarray, 'R r'], pretraining: Int[np.ndarray, ' R'] | Sequence[int]
) -> Float[np.ndarray, 'p r']:
    """Mean over the fine-tunings of each pre-training, by ascending code."""
    codes = np.asarray(pretraining)
    return np.stack([values[codes == code].mean(axis=0) for code in np.unique(codes)])


def _units(
    values: Float[np.ndarray, 'R r'], pretraining: Int[np.ndarray, ' R'] | Sequence[int]
) -> Float[np.ndarray, 'u r']:
    """What is drawn beside patients: pre-trainings, or the runs where there is one only."""
    means = _means(values, pretraining)
    return means if len(means) > 1 else values


def _variance(
    methods: Sequence[Float[np.ndarray, 'u r+1']], behind: intervals.Support, seed: int
) -> tuple[float, float]:
    """Variance of the sum of the methods' means over their units, and its degrees of freedom.

    A bootstrap of n units is too narrow by (n - 1) / n: n - 1 of them are drawn (Rao & Wu 1988,
    Resampling Inference with Complex Survey Data; Hesterberg 2015, What Teachers Should Know about
    the Bootstrap). Drawing patients and units at once is on the wide side where they interact (Owen
    2007, The Pigeonhole Bootstrap). Degrees of freedom by Satterthwaite 1946 from the patients'
    part and each method's units.
    """
    random = np.random.default_rng((seed, 1))
    total = np.zeros(methods[0].shape[1] - 1)
    for units in methods:
        total += _draw(units[:, 1:], random)
    over_patients = float(np.nanvar(sum(units[:, 1:].mean(axis=0) for units in methods), ddof=1))
    over_units = [(u[:, 0].var(ddof=1) / len(u), len(u) - 1) for u in methods if len(u) > 1]
    parts = [(over_patients, behind.degrees_of_freedom), *over_units]
    squares = sum(variance**2 / freedom for variance, freedom in parts)
    if not squares > 0:
        return 0.0, behind.degrees_of_freedom
    freedom = sum(variance for variance, _ in parts) ** 2 / squares
    return float(np.nanvar(total, ddof=1)), float(freedom)


def _draw(units: Float[np.ndarray, 'u r'], random: np.random.Generator) -> Float[np.ndarray, ' r']:
    """In each replicate, the mean of u - 1 units drawn with replacement (of the one unit)."""
    n, replicates = units.shape
    if n == 1:
        return units[0]
    drawn = random.integers(n, size=(n - 1, replicates))
    return np.take_along_axis(units, drawn, axis=0).mean(axis=0)
