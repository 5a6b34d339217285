import functools

import numpy as np
import pytest
import scipy.stats

from big_ssl.evaluation import bootstrap, intervals, metrics

pytestmark = pytest.mark.filterwarnings('error')

REPLICATES = 150


def patients(random, count):
    """Patient of each case, each with 1 to 4 cases, and a value that a patient's cases share."""
    sizes = random.integers(1, 5, count)
    codes = np.repeat(np.arange(count), sizes)
    shared = random.normal(size=count)[codes]
    return codes, np.sqrt(0.6) * shared + np.sqrt(0.4) * random.normal(size=len(codes))


def auc_of_patients(random, positives, truth):
    """Patients with and without a disease, 60 of the latter."""
    codes, scores = patients(random, positives + 60)
    labels = (codes < positives).astype(int)
    scores = scores + labels * np.sqrt(2) * scipy.stats.norm.ppf(truth)
    behind = intervals.support(codes, [labels == 1, labels == 0])
    return codes, behind, functools.partial(metrics.auc, labels, scores)


def auc_of_cases(random, positives, truth):
    """Positive and negative cases of the same 60 patients."""
    codes, scores = patients(random, 60)
    labels = np.zeros(len(codes), int)
    labels[random.choice(len(codes), positives, replace=False)] = 1
    scores = scores + labels * np.sqrt(2) * scipy.stats.norm.ppf(truth)
    behind = intervals.support(codes, [labels == 1, labels == 0])
    return codes, behind, functools.partial(metrics.auc, labels, scores)


def sensitivity(random, positives, truth):
    """Patients with and without a disease; the cut is that of the true sensitivity."""
    codes, scores = patients(random, 2 * positives)
    labels = (codes < positives).astype(int)
    cut = scipy.stats.norm.ppf(1 - truth)
    behind = intervals.support(codes, [labels == 1])
    return codes, behind, functools.partial(metrics.sensitivity, labels, scores, threshold=cut)


def balanced_accuracy(random, positives, truth):
    """Four classes of one label a patient, each as large; mean of recalls 0.1 apart."""
    codes, scores = patients(random, 4 * positives)
    labels = codes // positives
    recalls = truth + np.array([-0.15, -0.05, 0.05, 0.15])
    right = scores < scipy.stats.norm.ppf(recalls)[labels]
    predicted = np.where(right, labels, (labels + 1) % 4)
    behind = intervals.support(codes, [labels == i for i in range(4)], terms=4)
    return codes, behind, functools.partial(metrics.balanced_accuracy, labels, np.eye(4)[predicted])


def macro_auc(random, positives, truth):
    """Four findings of the same 60 patients, each in other patients and with a score of its own."""
    codes, common = patients(random, 60)
    groups, aucs = [], []
    for _ in range(4):
        labels = np.isin(codes, random.choice(60, positives, replace=False)).astype(int)
        scores = common + random.normal(size=len(codes)) + 2 * scipy.stats.norm.ppf(truth) * labels
        groups += [labels == 1, labels == 0]
        aucs.append(functools.partial(metrics.auc, labels, scores))
    behind = intervals.support(codes, groups, terms=4)
    return codes, behind, lambda weights: np.mean([auc(weights=weights) for auc in aucs], axis=0)


def coverage(make, positives, truth, trials):
    """How often the interval holds the truth, and how often the percentile interval does."""
    random = np.random.default_rng(0)
    held = np.zeros(2)
    for trial in range(trials):
        codes, behind, metric = make(random, positives, truth)
        weights = bootstrap.cluster_weights(codes, REPLICATES, trial)
        point = metric(weights=np.ones((1, len(codes))))[0]
        replicates = metric(weights=weights)
        low, high = intervals.interval(point, replicates, behind)
        percentile = np.nanquantile(replicates, [0.025, 0.975])
        held += low <= truth <= high, percentile[0] <= truth <= percentile[1]
    return held / trials


@pytest.mark.parametrize(
    ('make', 'positives', 'truth', 'percentile_fails'),
    [
        (auc_of_patients, 6, 0.6, False),
        (auc_of_patients, 6, 0.97, True),
        (auc_of_patients, 10, 0.8, False),
        (auc_of_patients, 20, 0.97, True),
        (auc_of_patients, 100, 0.8, False),
        (auc_of_cases, 10, 0.9, True),
        (auc_of_cases, 20, 0.97, True),
        (sensitivity, 6, 0.9, True),
        (sensitivity, 10, 0.9, True),
        (sensitivity, 20, 0.7, False),
        (sensitivity, 20, 0.95, True),
        (balanced_accuracy, 6, 0.75, False),
        (balanced_accuracy, 20, 0.75, False),
        (macro_auc, 10, 0.9, False),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(make, positives, truth, percentile_fails):
    """93.5 to 99% of 1000 trials (standard error 0.7%), to 99.5% below ten positives."""
    held, percentile = coverage(make, positives, truth, trials=1000)
    assert 0.935 <= held <= (0.99 if positives >= 10 else 0.995)
    if percentile_fails:
        assert percentile < 0.87


def test_without_clusters_or_small_samples_it_is_wilsons_interval():
    for right, n in ((3, 40), (20, 40), (39, 40)):
        expected = scipy.stats.binomtest(right, n).proportion_ci(0.9, method='wilson')
        p = right / n
        found = intervals.score_interval(p, p * (1 - p) / n, np.inf, np.inf, level=0.9)
        assert found == pytest.approx((expected.low, expected.high))
    expected = scipy.stats.binomtest(7, 7).proportion_ci(method='wilson')
    assert intervals.score_interval(1.0, 0.0, 7, np.inf) == pytest.approx((expected.low, 1))


def test_five_of_five_are_not_certain():
    behind = intervals.support(np.arange(5), [np.ones(5, bool)])
    low, high = intervals.interval(1.0, np.ones(100), behind)
    t = scipy.stats.t.ppf(0.975, 4)
    assert (low, high) == (pytest.approx(5 / (5 + t**2)), 1)
    assert intervals.interval(0.0, np.zeros(100), behind) == (0, pytest.approx(1 - low))


def test_a_variance_of_nothing_is_no_certainty():
    """Every patient has one case right and one wrong: no replicate differs."""
    low, high = intervals.interval(0.5, np.full(100, 0.5), intervals.Support((10.0,)))
    assert low < 0.48 and high > 0.52


def test_support_counts_patients_by_their_cases():
    clusters = np.array(['a', 'a', 'a', 'b', 'c', 'c'])
    first = np.array([1, 1, 1, 1, 0, 0], bool)
    behind = intervals.support(clusters, [first, ~first])
    assert behind.clusters == pytest.approx((16 / 10, 1))
    assert not behind.is_enough
    alike = intervals.support(np.repeat(np.arange(8), 3), [np.ones(24, bool)])
    assert alike.clusters == pytest.approx((8,)) and alike.is_enough
    assert alike.total == pytest.approx(8)
    assert alike.degrees_of_freedom == pytest.approx(7)
    assert not intervals.support(clusters, [np.zeros(6, bool)]).is_enough


def test_degrees_of_freedom_are_welchs():
    random = np.random.default_rng(0)
    a, b = random.normal(size=6), random.normal(size=15)
    a, b = a / a.std(ddof=1), b / b.std(ddof=1)
    welch = scipy.stats.ttest_ind(a, b, equal_var=False)
    behind = intervals.Support((6.0, 15.0))
    assert behind.degrees_of_freedom == pytest.approx(welch.df)
    assert 1 / behind.total == pytest.approx(1 / 6 + 1 / 15)
    assert intervals.Support((10.0, 10.0, 10.0), terms=3).total == pytest.approx(30)


def test_no_interval_without_replicates_or_patients():
    enough = intervals.Support((9.0, 4.0))
    assert not np.isnan(intervals.interval(0.5, np.array([0.4, np.nan, 0.6]), enough)).any()
    for point, replicates, behind in (
        (0.5, np.array([0.4, np.nan]), enough),
        (np.nan, np.linspace(0, 1, 9), enough),
        (0.5, np.linspace(0, 1, 9), intervals.Support((9.0, 3.9))),
    ):
        assert np.isnan(intervals.interval(point, replicates, behind)).all()
