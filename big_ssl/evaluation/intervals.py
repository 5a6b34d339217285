"""95% intervals of figures between 0 and 1 that hold the truth as often as they say.

Patients are independent, their cases are not. The variance of a figure is the sum of squares of
what its patients did to it (`influence`), its degrees of freedom are those of that sum, and the
interval is Wilson's score interval with the number of independent cases that would give the same
variance (Korn & Graubard 1998, Confidence Intervals for Proportions with Small Expected Number of
Positive Counts Estimated from Survey Data). No random numbers are drawn. `python -m
benchmarks.coverage` simulates what it is worth.
"""

import numpy as np
import scipy.stats
from jaxtyping import Float

from big_ssl.evaluation.influence import Figure, leverage

WITHIN_PATIENT = 0.25  # working correlation of a patient's cases: for degrees of freedom, and
# for what a figure of exactly 0 or 1, which shows no variance, could still be
_LEVEL = 0.975  # of each end of a two-sided 95%


def interval(figure: Figure) -> tuple[float, float]:
    """Interval of one model's figure; NaN where too few patients stand behind it.

    See `score_interval`.
    """
    if not figure.is_enough:
        return float('nan'), float('nan')
    freedom = min(degrees_of_freedom(figure), of_sum(figure.moved))
    return score_interval(figure, figure.centre, float((figure.moved**2).sum()), freedom)


def score_interval(
    figure: Figure, centre: float, variance: float, freedom: float
) -> tuple[float, float]:
    """Wilson 1927's interval with an effective number of cases and Student's t.

    A variance that is 0 by chance is no certainty: no end lies beyond that of the interval which
    the same patients would have with a figure of exactly 0 or 1 (`_largest_number`), so that a
    better figure never has a lower end; and the number of cases has a bound, by simulation, that is
    hardly ever reached.

    Args:
      figure: of the same patients and groups; it must be `is_enough`.
      centre: the figure, for several runs their mean.
      variance, freedom: of `centre`, and the variance's degrees of freedom.
    """
    most = _largest_number(figure)
    surest = most / (most + quantile(degrees_of_freedom(figure)) ** 2)
    binomial = centre * (1 - centre)
    if binomial < 1e-12:
        return (surest, 1.0) if centre > 0.5 else (0.0, 1 - surest)
    n = 1 / max(variance / binomial, 1 / (most * (most + 10)))
    t = quantile(freedom)
    middle = (centre + t**2 / (2 * n)) / (1 + t**2 / n)
    half = t / (1 + t**2 / n) * np.sqrt(binomial / n + t**2 / (4 * n**2))
    low, high = min(middle - half, surest), max(middle + half, 1 - surest)
    return float(max(low, 0)), float(min(high, 1))


def quantile(freedom: float) -> float:
    """Student's t of a two-sided 95%."""
    return float(scipy.stats.t.ppf(_LEVEL, freedom))


def of_sum(moved: Float[np.ndarray, ' p']) -> float:
    """Degrees of freedom of a sum of squares by its fourth moment; infinite without any.

    2 V^2 / (sum of u^4 - V^2 / p): p for normal u, few where few patients make the variance.
    """
    total = (moved**2).sum()
    excess = (moved**4).sum() - total**2 / max(len(moved), 1)
    return float(2 * total**2 / excess) if excess > 0 else float('inf')


def degrees_of_freedom(figure: Figure) -> float:
    """Those of the sum of squares if a patient's cases are alike by `WITHIN_PATIENT`.

    Bell & McCaffrey 2002 (after Satterthwaite 1946): (trace of C)^2 / (trace of C^2), with C the
    covariance of what the patients do to the figure. A patient in several groups counts once.
    """
    weights, spread = figure.weights, _working_variance(figure)
    c, shares, p = leverage(weights), weights / weights.sum(axis=0), weights.shape[1]
    # u_i = sum over groups of c (z_i - share_i * sum of z): C = diagonal + X M X', of low rank.
    diagonal = (c**2 * spread).sum(axis=1)
    x = np.concatenate([c * shares, c * spread], axis=1)
    m, one = np.zeros((2 * p, 2 * p)), np.eye(p)
    m[:p, :p], m[:p, p:], m[p:, :p] = np.diag(spread.sum(axis=0)), -one, -one
    low_rank = ((x @ m) * x).sum(axis=1)
    inner = m @ (x.T @ x)
    trace = diagonal.sum() + low_rank.sum()
    squares = (diagonal**2).sum() + 2 * (diagonal * low_rank).sum() + np.trace(inner @ inner)
    return float(trace**2 / squares)


def _working_variance(figure: Figure) -> Float[np.ndarray, 'p g']:
    """Of the sum of each patient's cases in each group, in units of one case's variance."""
    return WITHIN_PATIENT * figure.weights**2 + (1 - WITHIN_PATIENT) * figure.squares


def _largest_number(figure: Figure) -> float:
    """How many independent hits or misses the cases can be worth at most."""
    return float(1 / (figure.spread * _working_variance(figure).sum()))
