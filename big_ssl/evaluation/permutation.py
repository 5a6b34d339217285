"""Permutation test of two models on the same cases: are their predictions interchangeable?"""

from collections.abc import Iterator

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Shaped

from big_ssl.evaluation.comparison import Labels, Metric

_CHUNK = 500  # permutations at a time
_ROUNDING = 1e-12  # differences that are equal, however they were summed


def permutation_p(
    labels: Labels,
    scores_a: Float[np.ndarray, 'n k'],
    scores_b: Float[np.ndarray, 'n k'],
    clusters: Shaped[np.ndarray, ' n'],
    metric: Metric,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the difference of a metric, two models' predictions being swapped.

    A permutation swaps the two predictions of all cases of a patient, or of none. For a metric by
    rank the models' ranks within each class are swapped, so that models on different scales can be
    compared (Venkatraman & Begg 1996, A Distribution-Free Procedure for Comparing Receiver
    Operating Characteristic Curves from a Paired Experiment). p is the share of permutations, the
    data among them, that differ more than the data, those that differ as much counting half
    (Lancaster 1961, Significance Tests in Discrete Distributions: with few patients many tie, and
    a test that counts them whole hardly ever rejects). Where there are no more than `permutations`
    ways to swap, all of them are taken, once each.

    One model of each method: the variation of its seeds is not in it. NaN if the metric is.
    """
    both = np.concatenate([_ranks(s) if metric.by_rank else s for s in (scores_a, scores_b)])
    twice = np.concatenate([labels, labels])

    def difference(swapped: Bool[np.ndarray, 'r n']) -> Float[np.ndarray, ' r']:
        first = np.concatenate([~swapped, swapped], axis=1).astype(np.int8)
        return metric.values(twice, both, first) - metric.values(twice, both, 1 - first)

    observed = abs(difference(np.zeros((1, len(labels)), bool))[0])
    if np.isnan(observed):
        return float('nan')
    codes, cluster_of_case = np.unique(clusters, return_inverse=True)
    exact = len(codes) < 63 and 2 ** len(codes) <= permutations
    draws = _every(len(codes)) if exact else _random(len(codes), permutations, seed)
    total, count = (2 ** len(codes), 0.0) if exact else (1 + permutations, 0.5)
    for swapped in draws:
        more = abs(difference(swapped[:, cluster_of_case])) - observed
        count += float((more > _ROUNDING).sum() + (abs(more) <= _ROUNDING).sum() / 2)
    return count / total


def _ranks(scores: Float[np.ndarray, 'n k']) -> Float[np.ndarray, 'n k']:
    """Of each column; ties share their mean rank."""
    return scipy.stats.rankdata(scores, axis=0)


def _every(clusters: int) -> Iterator[Bool[np.ndarray, 'chunk clusters']]:
    """All ways to swap some of the clusters."""
    for start in range(0, 2**clusters, _CHUNK):
        ways = np.arange(start, min(start + _CHUNK, 2**clusters))
        yield (ways[:, None] >> np.arange(clusters)[None, :]) % 2 == 1


def _random(
    clusters: int, permutations: int, seed: int
) -> Iterator[Bool[np.ndarray, 'chunk clusters']]:
    random = np.random.default_rng(seed)
    for start in range(0, permutations, _CHUNK):
        yield random.random((min(_CHUNK, permutations - start), clusters)) < 0.5
