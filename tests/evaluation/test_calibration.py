import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from big_ssl.evaluation import calibration


def data(n=400, k=3):
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(k, 0.5), n)
    return random.integers(0, k, n), probabilities


def test_error_and_curve_are_those_of_a_loop():
    labels, probabilities = data()
    curve = calibration.reliability(labels, probabilities)
    error = 0.0
    for b in range(15):
        inside = [i for i, p in enumerate(probabilities) if b / 15 < max(p) <= (b + 1) / 15]
        assert curve.count[b] == len(inside)
        if not inside:
            assert np.isnan(curve.accuracy[b]) and np.isnan(curve.confidence[b])
            continue
        accuracy = np.mean([np.argmax(probabilities[i]) == labels[i] for i in inside])
        confidence = np.mean([max(probabilities[i]) for i in inside])
        assert (curve.accuracy[b], curve.confidence[b]) == pytest.approx((accuracy, confidence))
        error += len(inside) / len(labels) * abs(accuracy - confidence)
    assert calibration.expected_calibration_error(labels, probabilities) == pytest.approx(error)


def test_certainty_lies_in_the_last_bin():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    labels = np.array([0, 1, 0, 1])
    assert calibration.reliability(labels, probabilities).count[-1] == 4
    assert calibration.expected_calibration_error(labels, probabilities) == pytest.approx(0.25)


def test_a_calibrated_model_has_a_small_error():
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(4), 20_000)
    labels = np.array([random.choice(4, p=p) for p in probabilities])
    assert calibration.expected_calibration_error(labels, probabilities) < 0.02


def test_no_cases_are_refused():
    with pytest.raises(ValueError, match='no cases'):
        calibration.expected_calibration_error(np.zeros(0, int), np.zeros((0, 2)))


def test_a_confidence_on_an_edge_lies_in_the_lower_bin():
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [0.76, 0.24]])
    curve = calibration.reliability(np.zeros(3, int), probabilities, bins=4)
    np.testing.assert_array_equal(curve.count, [0, 1, 1, 1])


def test_curve_and_error_of_one_class_are_those_of_a_loop():
    random = np.random.default_rng(2)
    probabilities = random.random(300)
    labels = (random.random(300) < probabilities**2).astype(float)
    labels[::7] = np.nan
    curve = calibration.binary_reliability(labels, probabilities, bins=10)
    error = 0.0
    for b in range(10):
        inside = [
            i
            for i, p in enumerate(probabilities)
            if b / 10 < p <= (b + 1) / 10 and not np.isnan(labels[i])
        ]
        share, mean = np.mean(labels[inside]), np.mean(probabilities[inside])
        assert curve.count[b] == len(inside)
        assert (curve.confidence[b], curve.accuracy[b]) == pytest.approx((mean, share))
        error += len(inside) / 257 * abs(share - mean)
    found = calibration.binary_calibration_error(labels, probabilities, bins=10)
    assert found == pytest.approx(error) and error > 0.1


def test_curve_of_one_class_is_scikit_learns():
    random = np.random.default_rng(3)
    probabilities = random.random(200) ** 2
    labels = random.integers(0, 2, 200)
    curve = calibration.binary_reliability(labels, probabilities, bins=8)
    share, mean = sklearn.calibration.calibration_curve(labels, probabilities, n_bins=8)
    np.testing.assert_allclose(curve.accuracy[curve.count > 0], share)
    np.testing.assert_allclose(curve.confidence[curve.count > 0], mean)


def test_a_class_is_judged_by_its_probability_not_by_confidence():
    """Said to be impossible, and never there: certain and right, in the first bin."""
    curve = calibration.binary_reliability(np.zeros(4), np.zeros(4))
    assert curve.count[0] == 4 and curve.confidence[0] == curve.accuracy[0] == 0
    assert calibration.binary_calibration_error(np.zeros(4), np.zeros(4)) == 0
    with pytest.raises(ValueError, match='no cases'):
        calibration.binary_calibration_error(np.full(3, np.nan), np.zeros(3))


def test_brier_score_by_hand():
    """(1 - 0.7)^2 + 0.2^2 + 0.1^2 = 0.14; 0.5^2 + (1 - 0.25)^2 + 0.25^2 = 0.875."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]], np.float32)
    found = calibration.brier_score(np.array([0, 1]), probabilities)
    assert found == pytest.approx((0.14 + 0.875) / 2)
    certain = np.eye(3)
    assert calibration.brier_score(np.array([0, 1, 2]), certain) == 0
    assert calibration.brier_score(np.array([1, 2, 0]), certain) == 2


def test_brier_score_is_the_sum_of_scikit_learns_over_the_classes():
    random = np.random.default_rng(4)
    probabilities, labels = random.dirichlet(np.ones(4), 300), random.integers(0, 4, 300)
    ours = calibration.brier_score(labels, probabilities)
    by_class = [
        sklearn.metrics.brier_score_loss(labels == i, probabilities[:, i]) for i in range(4)
    ]
    assert ours == pytest.approx(sum(by_class))
    two = probabilities[:, :2] / probabilities[:, :2].sum(axis=1, keepdims=True)
    theirs = sklearn.metrics.brier_score_loss(labels % 2, two[:, 1])
    assert calibration.brier_score(labels % 2, two) == pytest.approx(2 * theirs)


def test_brier_score_of_one_class_is_scikit_learns_without_missing_labels():
    random = np.random.default_rng(5)
    probabilities = random.random(300)
    labels = (random.random(300) < probabilities).astype(float)
    theirs = sklearn.metrics.brier_score_loss(labels[100:], probabilities[100:])
    labels[:100] = np.nan
    assert calibration.binary_brier_score(labels, probabilities) == pytest.approx(theirs)


def test_brier_scores_without_cases_are_refused():
    with pytest.raises(ValueError, match='no cases'):
        calibration.brier_score(np.zeros(0, int), np.zeros((0, 2)))
    with pytest.raises(ValueError, match='no cases'):
        calibration.binary_brier_score(np.full(3, np.nan), np.zeros(3))
