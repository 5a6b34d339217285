import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from big_ssl.evaluation import comparison, permutation

pytestmark = pytest.mark.filterwarnings('error')


def two_models(random, n, separations=(1.5, 0.5)):
    """Labels with both classes, and scores [n, 2] of two models that see the same difficulty."""
    labels = np.arange(n) % 2
    common = random.normal(size=n)
    models = [
        common + 0.7 * random.normal(size=n) + separation * labels for separation in separations
    ]
    return labels, *(np.stack([-scores, scores], axis=1) for scores in models)


def mid_p(found):
    """Of what SciPy's `permutation_test` gives: ties with the data count half."""
    beyond = abs(found.null_distribution) - abs(found.statistic)
    return (beyond > 1e-9).mean() + (abs(beyond) <= 1e-9).mean() / 2


def test_auc_by_ranks_is_scipys_exact_test():
    """SciPy swaps the ranks of each pair; 9 cases, 512 ways."""
    for seed in range(3):
        labels, a, b = two_models(np.random.default_rng(seed), 9)
        ranks = [scipy.stats.rankdata(scores[:, 1]) for scores in (a, b)]

        def difference(x, y, axis, labels=labels):
            found = [
                sklearn.metrics.roc_auc_score(labels, one)
                - sklearn.metrics.roc_auc_score(labels, other)
                for one, other in zip(x.reshape(-1, 9), y.reshape(-1, 9))
            ]
            return np.round(found, 9).reshape(x.shape[:-1])

        expected = scipy.stats.permutation_test(
            ranks, difference, permutation_type='samples', n_resamples=np.inf, vectorized=True
        )
        found = permutation.permutation_p(labels, a, b, np.arange(9), comparison.auc_of(1))
        assert found == pytest.approx(mid_p(expected), abs=1e-12)


def test_top1_is_mcnemars_mid_p_test():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 13)
    a, b = random.random((2, 13, 3)) + np.array([0.3, 0.0])[:, None, None] * np.eye(3)[labels]
    only_a = ((a.argmax(axis=1) == labels) & (b.argmax(axis=1) != labels)).sum()
    only_b = ((a.argmax(axis=1) != labels) & (b.argmax(axis=1) == labels)).sum()
    assert only_a and only_b and only_a != only_b
    as_much = 2 * scipy.stats.binom.pmf(only_a, only_a + only_b, 0.5)
    expected = scipy.stats.binomtest(only_a, only_a + only_b).pvalue - as_much / 2
    found = permutation.permutation_p(labels, a, b, np.arange(13), comparison.top1)
    assert found == pytest.approx(expected, abs=1e-12)


def test_patients_are_swapped_whole():
    """The difference is a sum over patients, whose signs SciPy flips: 9 patients, 512 ways."""
    random = np.random.default_rng(1)
    patients = np.repeat(np.arange(9), random.integers(1, 6, 9))
    labels = random.integers(0, 3, len(patients))
    a, b = random.random((2, len(patients), 3))
    a[patients < 6] += 0.5 * np.eye(3)[labels[patients < 6]]
    right = [np.bincount(patients, s.argmax(axis=1) == labels) for s in (a, b)]
    expected = scipy.stats.permutation_test(
        right,
        lambda x, y, axis: (x - y).sum(axis=axis),
        permutation_type='samples',
        n_resamples=np.inf,
        vectorized=True,
    )
    found = permutation.permutation_p(labels, a, b, patients, comparison.top1)
    assert found == pytest.approx(mid_p(expected), abs=1e-12)
    each = permutation.permutation_p(labels, a, b, np.arange(len(patients)), comparison.top1)
    assert each != pytest.approx(found, abs=0.01)


def test_drawn_permutations_come_near_to_all_of_them():
    labels, a, b = two_models(np.random.default_rng(2), 14)
    data = labels, a, b, np.arange(14), comparison.auc_of(1)
    exact = permutation.permutation_p(*data, permutations=2**14)
    drawn = permutation.permutation_p(*data, permutations=4000, seed=1)
    assert exact != drawn == permutation.permutation_p(*data, permutations=4000, seed=1)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4001)


def test_p_is_never_zero():
    labels, a, b = two_models(np.random.default_rng(3), 60, separations=(9.0, -9.0))
    metric = comparison.auc_of(1)
    assert permutation.permutation_p(labels, a, b, np.arange(60), metric, permutations=99) == 0.005


def test_the_scale_of_a_model_does_not_matter_to_its_ranks():
    labels, a, b = two_models(np.random.default_rng(4), 40)
    for metric in (comparison.auc_of(1), comparison.macro_auc((0, 1))):
        found = [
            permutation.permutation_p(labels, a, other, np.arange(40), metric, permutations=300)
            for other in (b, 100 + np.exp(b))
        ]
        assert found[0] == found[1]


def test_models_on_other_scales_that_are_as_good_are_not_told_apart():
    """80 pairs of equally good models, one on the scale of the other's cube."""
    random, metric = np.random.default_rng(5), comparison.auc_of(1)
    p = []
    for _ in range(80):
        labels, a, b = two_models(random, 40, separations=(1.0, 1.0))
        p.append(
            permutation.permutation_p(labels, a, b**3, np.arange(40), metric, permutations=199)
        )
    assert scipy.stats.kstest(p, 'uniform').pvalue > 0.01


def test_missing_labels_are_left_out_and_undefined_is_nan():
    labels, a, b = two_models(np.random.default_rng(6), 12)
    targets = np.eye(2)[labels]
    metric, clusters = comparison.auc_of(1), np.arange(12)
    assert permutation.permutation_p(targets, a, b, clusters, metric) == (
        permutation.permutation_p(labels, a, b, clusters, metric)
    )
    targets[:, 1] = np.where(targets[:, 1] == 1, np.nan, 0)
    assert np.isnan(permutation.permutation_p(targets, a, b, clusters, metric))
