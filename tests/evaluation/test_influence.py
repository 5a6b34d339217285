import itertools

import numpy as np
import pytest
import sklearn.metrics

from big_ssl.evaluation import influence

pytestmark = pytest.mark.filterwarnings('error')


def tied_data(seed, n=120):
    """Scores on a coarse grid (many ties), some labels missing, each case a patient of its own."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n).astype(float)
    scores = np.round(random.random(n) + 0.2 * labels, 1)
    labels[random.random(n) < 0.1] = np.nan
    return labels, scores, np.arange(n)


def mixed_patients(seed, patients=80, classes=3):
    """Patients of 1 to 6 cases, whose scores have something in common."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), random.integers(1, 7, patients))
    labels = random.integers(0, classes, len(codes))
    common = random.normal(size=(patients, classes))[codes]
    scores = common + random.normal(size=common.shape) + 1.2 * np.eye(classes)[labels]
    return labels, scores, codes


def jackknife(figure, labels, scores, codes):
    """Variance of `figure(...)` by leaving out one patient at a time (Tukey 1958)."""
    values = []
    for code in np.unique(codes):
        kept = codes != code
        values.append(
            figure(labels[kept], scores[kept], np.unique(codes[kept], return_inverse=1)[1])
        )
    n = len(values)
    return (n - 1) / n * ((np.array(values) - np.mean(values)) ** 2).sum()


@pytest.mark.parametrize('seed', range(3))
def test_values_are_sklearns(seed):
    labels, scores, patients = tied_data(seed)
    known = ~np.isnan(labels)
    truth, given = labels[known], scores[known]
    called = given >= 0.5
    false_positive, true_positive, _ = sklearn.metrics.roc_curve(
        truth, given, drop_intermediate=False
    )
    for found, expected in (
        (influence.auc(labels, scores, patients), sklearn.metrics.roc_auc_score(truth, given)),
        (
            influence.sensitivity(labels, scores, patients, 0.5),
            sklearn.metrics.recall_score(truth, called),
        ),
        (
            influence.specificity(labels, scores, patients, 0.5),
            sklearn.metrics.recall_score(truth, called, pos_label=0),
        ),
        (
            influence.sensitivity_at_specificity(labels, scores, patients),
            true_positive[1 - false_positive >= 0.9 - 1e-9].max(),
        ),
    ):
        assert found.value == pytest.approx(expected, rel=1e-12)
        assert found.centre == pytest.approx(expected, rel=1e-12)  # a patient each


def test_values_of_several_classes_are_sklearns():
    labels, scores, codes = mixed_patients(0, classes=5)
    predicted = scores.argmax(axis=1)
    for k in (1, 3):
        found = influence.top_k_accuracy(labels, scores, codes, k)
        expected = sklearn.metrics.top_k_accuracy_score(labels, scores, k=k)
        assert found.value == found.centre == pytest.approx(expected)
    found = influence.balanced_accuracy(labels, scores, codes)
    assert found.value == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
    targets = np.eye(5)[labels]
    expected = sklearn.metrics.roc_auc_score(targets, scores)
    for exclusive in (True, False):
        found = influence.macro_auc(targets, scores, codes, exclusive=exclusive)
        assert found.value == pytest.approx(expected)


def test_nine_of_ten_negatives_are_ninety_per_cent():
    scores = np.array([*np.arange(10) / 10, 0.85])
    labels, patients = np.array([0] * 10 + [1]), np.arange(11)
    assert influence.sensitivity_at_specificity(labels, scores, patients).value == 1
    scores[-1] = 0.8  # ties with the ninth negative: only 8 of 10 are below
    assert influence.sensitivity_at_specificity(labels, scores, patients).value == 0


def test_variance_of_a_share_is_that_of_a_mean_over_patients():
    """40 patients of five cases each: the deviation of the patients' means, n - 1 below."""
    hits = np.random.default_rng(1).random((40, 5)) < 0.7
    found = influence.share(hits.ravel(), np.ones(200, bool), np.repeat(np.arange(40), 5))
    assert (found.moved**2).sum() == pytest.approx(hits.mean(axis=1).var(ddof=1) / 40)


def test_variance_of_an_auc_is_delongs():
    """DeLong, DeLong & Clarke-Pearson 1988, by all pairs."""
    labels, scores, patients = tied_data(5)
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    expected = wins.mean(axis=1).var(ddof=1) / len(positives)
    expected += wins.mean(axis=0).var(ddof=1) / len(negatives)
    found = influence.auc(labels, scores, patients)
    assert (found.moved**2).sum() == pytest.approx(expected)
    assert found.moved.sum() == pytest.approx(0, abs=1e-12)


def test_variance_of_a_clustered_auc_is_obuchowskis():
    """Obuchowski 1997, where a patient is positive or negative: sums of placements a patient.

    Each of m patients with s_i of M cases contributes (V_i - s_i A)^2; m / (m - 1) corrects for
    all alike, the leverage here for each by its size: equal for equal sizes.
    """
    random = np.random.default_rng(2)
    codes = np.repeat(np.arange(30), 3)
    labels = (codes < 12).astype(int)
    scores = random.normal(size=30)[codes] + random.normal(size=90) + labels
    positives, negatives = scores[labels == 1], scores[labels == 0]
    wins = (positives[:, None] > negatives) * 1.0
    expected = 0
    for placements in (wins.mean(axis=1), wins.mean(axis=0)):
        sums = placements.reshape(-1, 3).sum(axis=1)
        m = len(sums)
        centred = sums - 3 * wins.mean()
        expected += m / (m - 1) * (centred**2).sum() / placements.size**2
    found = influence.auc(labels, scores, codes)
    assert (found.moved**2).sum() == pytest.approx(expected)


def test_centre_of_an_auc_counts_pairs_of_different_patients():
    labels, scores, codes = mixed_patients(3, patients=20, classes=2)
    scores = np.round(scores[:, 1], 1)
    pairs = [
        (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
        for i, j in itertools.product(np.flatnonzero(labels == 1), np.flatnonzero(labels == 0))
        if codes[i] != codes[j]
    ]
    found = influence.auc(labels, scores, codes)
    assert found.centre == pytest.approx(np.mean(pairs))
    assert found.centre != pytest.approx(found.value, abs=1e-4)


@pytest.mark.parametrize(
    'figure',
    [
        influence.top_k_accuracy,
        influence.balanced_accuracy,
        lambda y, s, p: influence.auc((y == 1).astype(int), s[:, 1], p),
        lambda y, s, p: influence.macro_auc(np.eye(3)[y], s, p, exclusive=True),
        lambda y, s, p: influence.macro_auc(np.eye(3)[y], s, p),
    ],
)
def test_variances_of_patients_in_several_classes_are_the_jackknifes(figure):
    labels, scores, codes = mixed_patients(4)
    expected = jackknife(lambda *data: figure(*data).centre, labels, scores, codes)
    found = figure(labels, scores, codes)
    assert (found.moved**2).sum() == pytest.approx(expected, rel=0.04)


def test_variance_of_a_sensitivity_whose_threshold_is_estimated():
    """It is that seen between 400 samples."""
    random = np.random.default_rng(6)
    values, variances = [], []
    for _ in range(400):
        labels = np.repeat([1, 0], [60, 200])
        scores = random.normal(size=260) + 1.3 * labels
        found = influence.sensitivity_at_specificity(labels, scores, np.arange(260))
        values.append(found.value)
        variances.append((found.moved**2).sum())
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.2)
    alone = np.mean(values) * (1 - np.mean(values)) / 60  # of a threshold that is known
    assert np.mean(variances) > 1.2 * alone


def test_what_the_data_do_not_define_is_nan():
    scores, patients = np.linspace(0, 1, 6), np.arange(6)
    for labels in (np.ones(6), np.zeros(6), np.full(6, np.nan)):
        for found in (
            influence.auc(labels, scores, patients),
            influence.sensitivity_at_specificity(labels, scores, patients),
        ):
            assert np.isnan(found.value) and not found.is_enough
    assert np.isnan(influence.sensitivity(np.zeros(6), scores, patients, 0.5).value)
    assert np.isnan(influence.macro_auc(np.zeros((6, 0)), np.zeros((6, 0)), patients).value)


@pytest.mark.parametrize(
    ('cases', 'enough'),
    [([1, 1, 1], False), ([1, 1, 1, 1], True), ([9, 1, 1, 1], False), ([3, 2, 2, 1, 1], True)],
)
def test_four_patients_must_stand_behind_every_group(cases, enough):
    """Four at least, and worth three of equal size: 12^2 / 84 is less."""
    codes = np.concatenate([np.repeat(np.arange(len(cases)), cases), 5 + np.arange(9)])
    codes = np.unique(codes, return_inverse=True)[1]
    labels = (np.arange(len(codes)) < sum(cases)).astype(int)
    scores = np.random.default_rng(0).random(len(codes))
    assert influence.auc(labels, scores, codes).is_enough is enough
    hits = scores > 0.5
    assert influence.share(hits, labels == 1, codes).is_enough is enough
    assert influence.share(hits, labels == 0, codes).is_enough
