import numpy as np
import pytest
import sklearn.metrics

from big_ssl.evaluation import influence, metrics

pytestmark = pytest.mark.filterwarnings('error')


def tied_data(seed, n=120, replicates=12):
    """Scores on a coarse grid (many ties), and weights of 0 to 3."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, n)
    scores = np.round(random.random(n) + 0.2 * labels, 1)
    return labels, scores, random.integers(0, 4, (replicates, n))


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('seed', range(3))
def test_auc_is_sklearns_in_each_replicate(seed, dtype):
    labels, scores, weights = tied_data(seed)
    expected = [sklearn.metrics.roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(
        metrics.auc(labels, scores.astype(dtype), weights), expected, rtol=1e-12
    )


def test_auc_by_counting_pairs():
    labels, scores = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.4, 0.1, 0.95])
    # Pairs won: 0.9 wins 2 of 3; 0.4 wins one and ties one.
    assert metrics.auc(labels, scores, np.ones((1, 5)))[0] == pytest.approx(3.5 / 6)


def test_chunks_of_replicates_change_nothing(monkeypatch):
    labels, scores, weights = tied_data(3)
    matrix = np.stack([1 - scores, scores], axis=1)
    expected = [sklearn.metrics.roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    top1 = [np.average((matrix.argmax(axis=1) == labels), weights=w) for w in weights]
    monkeypatch.setattr(metrics, '_CHUNK_ELEMENTS', 5 * len(labels))  # 12 replicates: 5 + 5 + 2
    np.testing.assert_allclose(metrics.auc(labels, scores, weights), expected, rtol=1e-12)
    np.testing.assert_allclose(metrics.top_k_accuracy(labels, matrix, weights), top1)


def test_top_k_and_balanced_accuracy_are_sklearns():
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 5, 200), random.random((200, 5))
    weights = random.integers(0, 3, (6, 200))
    for k in (1, 3):
        expected = [
            sklearn.metrics.top_k_accuracy_score(labels, scores, k=k, sample_weight=w)
            for w in weights
        ]
        np.testing.assert_allclose(metrics.top_k_accuracy(labels, scores, weights, k), expected)
    expected = [
        sklearn.metrics.balanced_accuracy_score(labels, scores.argmax(axis=1), sample_weight=w)
        for w in weights
    ]
    np.testing.assert_allclose(metrics.balanced_accuracy(labels, scores, weights), expected)


def test_balanced_accuracy_counts_only_the_classes_drawn():
    labels, scores = np.array([0, 1, 2]), np.eye(3)[[0, 0, 2]]
    weights = np.array([[1, 1, 1], [2, 1, 0], [0, 3, 0]])
    np.testing.assert_allclose(
        metrics.balanced_accuracy(labels, scores, weights), [2 / 3, 1 / 2, 0]
    )


def test_equal_scores_are_not_a_hit_for_everyone():
    assert metrics.top_k_accuracy(np.arange(4), np.full((4, 4), 0.25), np.ones((1, 4)))[0] == 0.25


def test_missing_labels_are_left_out():
    labels, scores, weights = tied_data(9)
    labels = labels.astype(np.float64)
    labels[::4] = np.nan
    known = ~np.isnan(labels)
    np.testing.assert_array_equal(
        metrics.auc(labels, scores, weights),
        metrics.auc(labels[known], scores[known], weights[:, known]),
    )


def test_undefined_replicates_are_nan_without_a_warning():
    labels, scores = np.array([1, 0, 0]), np.array([0.9, 0.2, 0.1])
    weights = np.array([[1, 1, 1], [0, 1, 2], [3, 0, 0]])  # all, no positive, no negative
    np.testing.assert_array_equal(metrics.auc(labels, scores, weights), [1, np.nan, np.nan])


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('seed', range(4))
def test_threshold_is_the_smallest_that_keeps_the_specificity(seed, dtype):
    labels, scores, _ = tied_data(seed)
    scores = scores.astype(dtype)
    threshold = metrics.threshold_at_specificity(labels, scores)
    negatives = scores[labels == 0].astype(np.float64)
    assert (negatives < threshold).mean() >= 0.9
    assert (negatives < np.nextafter(threshold, -np.inf)).mean() < 0.9
    patients = np.arange(len(labels))
    assert influence.specificity(labels, scores, patients, threshold).value >= 0.9
    # On the data it was chosen on, it reaches what the ROC offers.
    assert (
        influence.sensitivity(labels, scores, patients, threshold).value
        == influence.sensitivity_at_specificity(labels, scores, patients).value
    )


def test_threshold_when_all_negatives_tie_or_none_exist():
    assert metrics.threshold_at_specificity(np.zeros(5), np.ones(5)) == np.nextafter(1.0, 2)
    assert np.isnan(metrics.threshold_at_specificity(np.ones(5), np.ones(5)))
    assert metrics.threshold_at_specificity(np.zeros(5), np.ones(5), 0.0) == -np.inf
