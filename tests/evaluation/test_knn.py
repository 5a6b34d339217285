import numpy as np
import pytest
import sklearn.metrics

from big_ssl.evaluation import knn


def naive(bank, labels, query, classes, k, temperature):
    """One query at a time, in Python."""
    scores = []
    for q in query.astype(np.float64):
        similarity = [
            float(q @ b / np.linalg.norm(q) / np.linalg.norm(b)) for b in bank.astype(np.float64)
        ]
        nearest = sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]
        votes = [0.0] * classes
        for i in nearest:
            votes[labels[i]] += np.exp(similarity[i] / temperature)
        scores.append(np.array(votes) / sum(votes))
    return np.array(scores)


@pytest.mark.parametrize('k', [1, 5, 1000])
def test_scores_are_those_of_a_loop(k, monkeypatch):
    random = np.random.default_rng(0)
    bank = 3 * random.normal(size=(40, 8)).astype(np.float32)
    labels = random.integers(0, 4, 40)
    query = random.normal(size=(23, 8)).astype(np.float32)
    monkeypatch.setattr(knn, '_CHUNK_ELEMENTS', 40 * 10)  # 23 queries: 10 + 10 + 3
    found = knn.knn_predict(bank, labels, query, 4, k=k)
    np.testing.assert_allclose(found, naive(bank, labels, query, 4, k, 0.07), atol=1e-4)


def test_a_tiny_temperature_does_not_overflow():
    bank = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    scores = knn.knn_predict(bank, np.array([0, 1]), bank[::-1], 2, temperature=1e-4)
    np.testing.assert_allclose(scores, [[0, 1], [1, 0]])


def test_accuracies_are_sklearns():
    random = np.random.default_rng(1)
    bank_labels, labels = random.integers(0, 3, 90), random.choice(3, 60, p=[0.7, 0.2, 0.1])
    centres = random.normal(size=(3, 5))
    bank = centres[bank_labels] + random.normal(size=(90, 5))
    query = centres[labels] + random.normal(size=(60, 5))
    predicted = naive(bank, bank_labels, query, 3, 20, 0.07).argmax(axis=1)
    found = knn.knn_accuracy(bank, bank_labels, query, labels, 3)
    assert found['top1'] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert found['balanced_accuracy'] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, predicted)
    )


def test_multi_label_scores_are_those_of_a_loop(monkeypatch):
    random = np.random.default_rng(2)
    bank, query = random.normal(size=(40, 8)), random.normal(size=(23, 8))
    targets = random.integers(0, 2, (40, 3)).astype(float)
    targets[random.random((40, 3)) < 0.6] = np.nan
    monkeypatch.setattr(knn, '_CHUNK_ELEMENTS', 40 * 10)  # 23 queries: 10 + 10 + 3
    found = knn.knn_predict_multilabel(bank, targets, query, 3, k=4)
    share, unlabelled = np.nanmean(targets, axis=0), 0
    for row, q in enumerate(query):
        similarity = [float(q @ b / np.linalg.norm(q) / np.linalg.norm(b)) for b in bank]
        nearest = sorted(range(40), key=lambda i: -similarity[i])[:4]
        for c in range(3):
            known = [i for i in nearest if not np.isnan(targets[i, c])]
            votes = [np.exp(similarity[i] / 0.07) for i in known]
            expected = np.average(targets[known, c], weights=votes) if known else share[c]
            assert found[row, c] == pytest.approx(expected, abs=1e-4)
            unlabelled += not known
    assert unlabelled  # the test has seen that case


def test_one_label_of_a_case_as_targets_gives_the_same_scores():
    random = np.random.default_rng(3)
    bank, query = random.normal(size=(50, 4)), random.normal(size=(9, 4))
    labels = random.integers(0, 3, 50)
    np.testing.assert_allclose(
        knn.knn_predict_multilabel(bank, np.eye(3)[labels], query, 3),
        knn.knn_predict(bank, labels, query, 3),
    )


def test_a_class_without_any_label_has_probability_zero():
    targets = np.array([[1, np.nan], [0, np.nan]])
    found = knn.knn_predict_multilabel(np.eye(2), targets, np.eye(2), 2)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_an_empty_bank_is_refused():
    with pytest.raises(ValueError, match='at least one bank entry'):
        knn.knn_predict(np.zeros((0, 2)), np.zeros(0, int), np.zeros((1, 2)), 2)
    with pytest.raises(ValueError, match='at least one bank entry'):
        knn.knn_predict_multilabel(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((1, 2)), 2)
