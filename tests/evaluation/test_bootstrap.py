import numpy as np
import scipy.stats

from big_ssl.evaluation import bootstrap


def test_clusters_stay_whole_and_their_number_is_kept():
    clusters = np.random.default_rng(0).integers(0, 9, 60)
    weights = bootstrap.cluster_weights(clusters, 50, seed=1)
    first = np.unique(clusters, return_index=True)[1]
    for code in np.unique(clusters):
        assert (np.ptp(weights[:, clusters == code], axis=1) == 0).all()
    np.testing.assert_array_equal(weights[:, first].sum(axis=1), len(first))
    assert len(np.unique(weights, axis=0)) > 40


def test_counts_follow_the_binomial():
    weights = bootstrap.cluster_weights(np.arange(20), 20_000, seed=0)
    seen = np.bincount(weights[:, 3], minlength=8)[:8] / len(weights)
    expected = scipy.stats.binom.pmf(np.arange(8), 20, 1 / 20)
    np.testing.assert_allclose(seen, expected, atol=4 * np.sqrt(0.25 / len(weights)))


def test_seeded_and_named_by_anything():
    names = np.array(['b', 'a', 'b', 'c'])
    weights = bootstrap.cluster_weights(names, 30, seed=5)
    codes = np.array([7, 2, 7, 9])
    np.testing.assert_array_equal(weights, bootstrap.cluster_weights(codes, 30, seed=5))
    np.testing.assert_array_equal(weights[:10], bootstrap.cluster_weights(codes, 10, seed=5))
    assert (weights != bootstrap.cluster_weights(codes, 30, seed=6)).any()


def test_deviation_of_a_clustered_mean_is_that_of_the_patients():
    """60 patients of 5 equal cases: the deviation of the mean is the patients', not the cases'."""
    values = np.random.default_rng(2).normal(size=60)
    per_case, clusters = np.repeat(values, 5), np.repeat(np.arange(60), 5)
    weights = bootstrap.cluster_weights(clusters, 4000, seed=0)
    means = weights @ per_case / weights.sum(axis=1)
    np.testing.assert_allclose(means.std(), values.std() / np.sqrt(60), rtol=0.05)
