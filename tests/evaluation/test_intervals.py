import numpy as np
import pytest
import scipy.stats

from benchmarks import coverage
from benchmarks import simulated_patients as simulated
from big_ssl.evaluation import influence, intervals, summary

pytestmark = pytest.mark.filterwarnings('error')


def of_cases(right, n):
    """The share of `right` among n cases of a patient each."""
    return influence.share(np.arange(n) < right, np.ones(n, bool), np.arange(n))


def two_groups(positives, negatives, random):
    """An AUC of cases of a patient each."""
    labels = np.repeat([1, 0], [positives, negatives])
    return influence.auc(labels, random.random(len(labels)), np.arange(len(labels)))


def test_without_clusters_or_small_samples_it_is_wilsons_interval():
    for right, n in ((3, 40), (20, 40), (38, 40)):
        expected = scipy.stats.binomtest(right, n).proportion_ci(method='wilson')
        p = right / n
        found = intervals.score_interval(of_cases(right, n), p, p * (1 - p) / n, np.inf)
        assert found == pytest.approx((expected.low, expected.high))


def test_five_of_five_are_not_certain():
    low, high = intervals.interval(of_cases(5, 5))
    t = scipy.stats.t.ppf(0.975, 4)
    assert (low, high) == (pytest.approx(5 / (5 + t**2)), 1)
    assert intervals.interval(of_cases(0, 5)) == (0, pytest.approx(1 - low))


def test_patients_who_agree_by_chance_are_no_certainty():
    """Every patient has one case right and one wrong: the figure shows no variance."""
    codes = np.repeat(np.arange(10), 2)
    figure = influence.share(np.arange(20) % 2 == 0, np.ones(20, bool), codes)
    assert (figure.moved**2).sum() == 0
    low, high = intervals.interval(figure)
    assert low < 0.48 and high > 0.52


@pytest.mark.parametrize('patients', [1, 3])
def test_a_better_classifier_has_no_lower_end(patients):
    """Five positives of 200, from all pairs right to none: one of 975 pairs wrong was 0.889 to
    0.397 of a perfect one."""
    labels, codes = np.repeat([1, 0], [5 * patients, 195]), np.arange(5 * patients + 195)
    codes[: 5 * patients] = np.repeat(np.arange(5), patients)
    codes = np.unique(codes, return_inverse=True)[1]
    lows, highs, values = [], [], []
    for overtaken in (0, 1, 2, 5, 10, 20, 40, 80, 160, 195):
        scores = np.concatenate([np.full(5 * patients, 1e3), np.arange(195.0)])
        scores[0] = 194.5 - overtaken
        figure = influence.auc(labels, scores, codes)
        low, high = intervals.interval(figure)
        values.append(figure.value)
        lows.append(low)
        highs.append(high)
    assert (np.diff(values) < 0).all()
    assert (np.diff(lows) <= 1e-12).all() and (np.diff(highs) <= 1e-12).all()
    assert lows[0] > 0.5 and highs[0] == 1


def test_one_number_has_one_interval():
    """With two classes of one label the macro AUC, and both classes' AUC, are one number."""
    random = np.random.default_rng(0)
    for patients in (np.arange(20), np.repeat(np.arange(8), [1, 2, 2, 2, 3, 3, 3, 4])):
        labels = np.arange(20) % 2
        for noise in (0.0, 1.0):
            positive = 1 / (1 + np.exp(-(2 * labels - 1) - noise * random.normal(size=20)))
            found = summary.summarise(
                labels,
                np.stack([1 - positive, positive], axis=1),
                patients,
                ('a', 'b'),
                multilabel=False,
                thresholds=None,
            )
            for end in ('', '/low', '/high'):
                one = found[f'auc/a{end}']
                assert found[f'auc/b{end}'] == pytest.approx(one, abs=1e-9)
                assert found[f'auc_macro{end}'] == pytest.approx(one, abs=1e-9)
                assert found[f'auc_macro_all{end}'] == pytest.approx(one, abs=1e-9)


def test_degrees_of_freedom_are_welchs_where_groups_have_patients_of_their_own():
    random = np.random.default_rng(0)
    a, b = random.normal(size=6), random.normal(size=15)
    a, b = a / a.std(ddof=1), b / b.std(ddof=1)
    welch = scipy.stats.ttest_ind(a, b, equal_var=False)
    found = intervals.degrees_of_freedom(two_groups(6, 15, random))
    assert found == pytest.approx(welch.df)


def test_patients_in_several_groups_count_once():
    """Ten patients with as many cases of each of three classes are ten patients, not thirty."""
    codes, labels = np.repeat(np.arange(10), 6), np.tile([0, 1, 2], 20)
    scores = np.random.default_rng(1).random((60, 3))
    found = influence.balanced_accuracy(labels, scores, codes)
    assert intervals.degrees_of_freedom(found) == pytest.approx(9)
    assert intervals.degrees_of_freedom(of_cases(3, 12)) == pytest.approx(11)


def test_degrees_of_freedom_of_a_matrix_of_patients():
    """By the covariance of what patients do, written out: Bell & McCaffrey 2002."""
    random = np.random.default_rng(2)
    codes = np.repeat(np.arange(12), random.integers(1, 6, 12))
    labels = random.integers(0, 3, len(codes))
    figure = influence.balanced_accuracy(labels, random.random((len(codes), 3)), codes)
    covariance = np.zeros((12, 12))
    for group in range(3):
        members = labels == group
        sizes = np.bincount(codes[members], minlength=12)
        shares = sizes / sizes.sum()
        variance = (0.25 * sizes**2 + 0.75 * sizes) / (3 * sizes.sum()) ** 2
        rows = (np.eye(12) - shares[:, None]) / np.sqrt(1 - shares)[:, None]
        covariance += rows @ np.diag(variance) @ rows.T
    expected = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert intervals.degrees_of_freedom(figure) == pytest.approx(expected)


def test_degrees_of_freedom_of_a_sum_by_its_kurtosis():
    moved = np.random.default_rng(3).normal(size=200_000)
    assert intervals.of_sum(moved) == pytest.approx(200_000, rel=0.03)
    few = np.zeros(200)
    few[:4] = 1, -1, 1, -1  # four patients make the variance
    assert intervals.of_sum(few) == pytest.approx(2 * 16 / (4 - 16 / 200))
    assert intervals.of_sum(np.array([1.0, -1, 1, -1])) == np.inf


def test_no_interval_without_patients():
    three = influence.share(np.array([1, 0, 1], bool), np.ones(3, bool), np.arange(3))
    assert np.isnan(intervals.interval(three)).all()
    assert np.isnan(intervals.interval(influence.UNDEFINED)).all()


@pytest.mark.parametrize(
    ('cell', 'least'),
    [
        (simulated.Cell(8, 3, True, 0.5, simulated.MIDDLING), 92),
        (simulated.Cell(10, 3, True, 0.9, simulated.MIDDLING), 92.5),
        (simulated.Cell(20, 3, True, 0.0, simulated.GOOD), 92.5),
        (simulated.Cell(20, 8, True, 0.7, simulated.MIDDLING, several=True), 92.5),
        (simulated.Cell(30, 5, True, 0.5, simulated.RANDOM), 92.5),
        (simulated.Cell(50, 3, False, 0.7, simulated.GOOD), 92.5),
        (simulated.Cell(200, 2, False, 0.5, simulated.MIDDLING, rare=5), 92.5),
        (simulated.Cell(30, 3, True, 0.4, simulated.MIDDLING, False, 0, 3, 0.5, 0.1), 92.5),
    ],
    ids=lambda value: getattr(value, 'name', ''),
)
def test_intervals_hold_the_truth_as_often_as_they_say(cell, least):
    """400 trials (standard error 1.1%); more and tighter in the long test."""
    found = [one for one in coverage.coverage(cell, 400) if one.refused < 50]
    assert found
    for one in found:
        assert one.held >= least, one
        assert one.held <= 99.9 or cell.rare, one


@pytest.mark.long
def test_intervals_and_tests_over_many_kinds_of_data():
    """The short form of `python -m benchmarks.coverage`: what the docs say, within its noise.

    600 trials a cell (standard error 0.9%), some thirty figures.
    """
    for cell in simulated.interval_cells(quick=True):
        if cell.mark == simulated.PERFECT or cell.patient_effect == 0:
            continue
        for one in coverage.coverage(cell, 600):
            if one.refused < 50:
                assert 91 <= one.held <= (100 if one.truth > 0.9 or cell.rare else 99.6), one
    for cell in (*simulated.test_cells(quick=True), *simulated.seed_cells(quick=True)):
        for one in coverage.rejections(cell, 600):
            if one.refused < 50:
                assert 0.8 <= one.rejected <= 8.5, one
