"""Methods with several runs on the same cases: their intervals and paired differences.

A method has R runs; each carries the pre-training that it began from, and several fine-tunings of
one pre-training are not replicates of the method. A figure varies over patients, over pre-trainings
and with both at once; the variance of a mean over pre-trainings is that over patients, plus what
pre-trainings add to it (the two-way variance of Cameron, Gelbach & Miller 2011, Robust Inference
with Multiway Clustering, whose parts are those of Owen & Eckles 2012, Bootstrapping Data Arrays of
Arbitrary Order).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Num, Shaped

from big_ssl.evaluation import influence, intervals, metrics
from big_ssl.evaluation.influence import Figure

_ROUNDING = 1e-9  # a standard error below it is none
# Of the larger of two estimates of a difference's degrees of freedom, which the smaller alone makes
# too few: with one run, and with several, whose mean on a patient is nearer to a normal number.
_LARGER, _LARGER_OF_SEVERAL = 0.25, 0.5

Labels = Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k']  # class numbers, or 1, 0 and NaN by class


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of scores [n, k].

    Attributes:
      values: from labels, scores and weights [r, n], as in `metrics`, values [r].
      figure: from labels, scores and patients [n] (numbers), as in `influence`.
      by_rank: whether only the order of the scores within each class counts.
    """

    values: Callable[[Labels, np.ndarray, np.ndarray], np.ndarray]
    figure: Callable[[Labels, np.ndarray, np.ndarray], Figure]
    by_rank: bool = False


top1 = Metric(metrics.top_k_accuracy, influence.top_k_accuracy)
balanced_accuracy = Metric(metrics.balanced_accuracy, influence.balanced_accuracy)


def macro_auc(classes: Sequence[int]) -> Metric:
    """Mean AUC of exactly these classes, each against the rest; NaN where one of them is absent."""
    chosen = list(classes)

    def values(labels: Labels, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return np.mean(
            [metrics.auc(_target(labels, i), scores[:, i], weights) for i in chosen], axis=0
        )

    def figure(labels: Labels, scores: np.ndarray, patients: np.ndarray) -> Figure:
        targets = np.stack([_target(labels, i) for i in chosen], axis=1)
        exclusive = labels.ndim == 1
        return influence.macro_auc(targets, scores[:, chosen], patients, exclusive=exclusive)

    return Metric(values, figure, by_rank=True)


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
) -> Interval:
    """Interval of a method on these cases' population, over patients and pre-trainings.

    `intervals.score_interval` with the variance and degrees of freedom of `_variance`: with one run
    it is `intervals.interval`.
    """
    figures = _figures(metric, labels, scores, clusters)
    units, covers = _units(figures, pretraining), len(np.unique(pretraining)) > 1
    value = _mean(units, 'value')
    if np.isnan(value) or not figures[0].is_enough:
        return Interval(value, float('nan'), float('nan'), covers)
    variance, freedom = _variance([units], figures[0], larger=0)
    centre = _mean(units, 'centre')
    low, high = intervals.score_interval(figures[0], centre, variance, freedom)
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
) -> Difference:
    """Difference of two methods on the same cases, a minus b, by Student's t.

    Estimate +- t * standard error, with the variance and degrees of freedom of `_variance`. Nothing
    is said (NaN) where too few patients stand behind the metric or no patient makes a difference.

    Args:
      same_pretrainings: the codes name the same checkpoints in both methods, which are then
        compared one by one (two ways of using one pre-training).

    Raises:
      ValueError: `same_pretrainings`, but the sets of codes differ.
    """
    a, b = (_figures(metric, labels, scores, clusters) for scores in (scores_a, scores_b))
    counts = [len(np.unique(codes)) for codes in (pretraining_a, pretraining_b)]
    if same_pretrainings and set(pretraining_a) != set(pretraining_b):
        raise ValueError('same_pretrainings, but the methods have different ones')
    units_a, units_b = _units(a, pretraining_a), _units(b, pretraining_b)
    if same_pretrainings and counts[0] > 1:
        methods = [[influence.difference(one, other) for one, other in zip(units_a, units_b)]]
    else:
        nothing = dataclasses.replace(b[0], value=0.0, centre=0.0, moved=0 * b[0].moved)
        methods = [units_a, [influence.difference(nothing, unit) for unit in units_b]]
    value, covers = sum(_mean(units, 'value') for units in methods), min(counts) > 1
    unknown = Difference(value, float('nan'), float('nan'), float('nan'), covers)
    if np.isnan(value) or not a[0].is_enough:
        return unknown
    several = max(map(len, methods)) > 1
    larger = _LARGER_OF_SEVERAL if several else _LARGER
    variance, freedom = _variance(methods, a[0], larger=larger)
    error = np.sqrt(variance)
    if error < _ROUNDING:
        return unknown
    half = intervals.quantile(freedom) * error
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


def _figures(
    metric: Metric,
    labels: Labels,
    scores: Float[np.ndarray, 'R n k'],
    clusters: Shaped[np.ndarray, ' n'],
) -> list[Figure]:
    patients = np.unique(clusters, return_inverse=True)[1]
    return [metric.figure(labels, run, patients) for run in scores]


def _units(
    figures: Sequence[Figure], pretraining: Int[np.ndarray, ' R'] | Sequence[int]
) -> list[Figure]:
    """What varies beside patients: pre-trainings, each the mean of its fine-tunings, by ascending
    code; or the runs where there is one pre-training only."""
    codes = np.asarray(pretraining)
    if len(np.unique(codes)) == 1:
        return list(figures)
    return [
        _averaged([figure for figure, of in zip(figures, codes) if of == code])
        for code in np.unique(codes)
    ]


def _averaged(figures: Sequence[Figure]) -> Figure:
    return dataclasses.replace(
        figures[0],
        value=_mean(figures, 'value'),
        centre=_mean(figures, 'centre'),
        moved=np.mean([figure.moved for figure in figures], axis=0),
    )


def _mean(figures: Sequence[Figure], name: str) -> float:
    return float(np.mean([getattr(figure, name) for figure in figures]))


def _variance(
    methods: Sequence[Sequence[Figure]], design: Figure, *, larger: float
) -> tuple[float, float]:
    """Variance of the sum of the methods' means over their units, and its degrees of freedom.

    What patients do to the sum is seen as it is, the runs' own errors on a patient included. The
    units' deviations hold those errors a second time, so they count only as far as they are more
    than that. Where patients tell nothing it is the t-test of the units, of a single method or of
    two, the latter half-way between Student's and Welch's. With a few seeds the excess is uncertain
    to its own size, so that Satterthwaite's approximation, and taking off just what is expected,
    are too bold in one place and too timid in another: `_portion` and `_caution` are by simulation
    (`benchmarks.coverage`), so that three seeds or five reject 3 to 6.5% of true nulls whatever
    the mixture.

    Args:
      design: any of the figures, for its patients and groups.
      larger: the weight, in their harmonic mean, of the larger of two degrees of freedom over
        patients, by their design and by what they did.
    """
    moved = np.sum([_averaged(units).moved for units in methods], axis=0)
    over_patients = float((moved**2).sum())
    few, many = sorted([intervals.degrees_of_freedom(design), intervals.of_sum(moved)])
    freedom = 1 / ((1 - larger) / few + larger / many)
    several = [units for units in methods if len(units) > 1]
    if not several:
        return over_patients, freedom
    over_units = np.array([_of_mean([u.value for u in units]) for units in several])
    both = sum(_of_mean(np.array([u.moved for u in units])) for units in several)
    each = np.array([len(units) - 1 for units in several])
    free, seen = int(each.sum()), float(over_units.sum())
    excess = seen - _portion(free) * float(both)
    if excess <= 0:
        return over_patients, freedom
    total = over_patients + excess
    welch = seen**2 / (over_units**2 / each).sum()
    noise = over_patients**2 / freedom
    noise += seen * (seen + _caution(free) * over_patients) / ((welch + free) / 2)
    return total, max(float(total**2 / noise), 1.0)


def _portion(freedom: int) -> float:
    """How much of the errors that units and patients share is taken off, see `_variance`."""
    return min(freedom + 1, 5) / 4


def _caution(freedom: int) -> float:
    """How much more uncertain than it looks an excess is that is small by chance."""
    return 1.2 / freedom


def _of_mean(values: Float[np.ndarray, 'u *p'] | Sequence[float]) -> float:
    """Variance of the mean over u units, summed over patients if there are any."""
    return float(np.var(values, axis=0, ddof=1).sum() / len(values))
