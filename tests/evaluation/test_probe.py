import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.metrics

from big_ssl.errors import InputError
from big_ssl.evaluation import probe

pytestmark = pytest.mark.filterwarnings('error')


def blobs(n, seed, classes=3, spread=1.0):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = 2 * np.random.default_rng(99).normal(size=(classes, 6))
    return centres[labels] + spread * random.normal(size=(n, 6)), labels


@pytest.mark.parametrize('balanced', [False, True])
def test_probabilities_are_those_of_a_direct_minimisation(balanced, monkeypatch):
    """Minimises C * weighted cross-entropy + |W|^2 / 2 with SciPy, as a second implementation."""
    monkeypatch.setattr(probe, 'STRENGTHS', (0.5,))
    features, labels = blobs(60, 0, spread=3.0)
    features, labels = features[:45], np.minimum(labels[:45], 1) + (np.arange(45) > 40)
    test, _ = blobs(20, 1)
    found = probe.linear_probe(
        features, labels, features, labels, test, classes=3, balanced=balanced
    )
    mean, scale = features.mean(axis=0), features.std(axis=0)
    x, counts = (features - mean) / scale, np.bincount(labels, minlength=3)
    weight = len(labels) / (3 * counts[labels]) if balanced else np.ones(len(labels))

    def objective(flat):
        w, b = flat[:18].reshape(6, 3), flat[18:]
        log_p = scipy.special.log_softmax(x @ w + b, axis=1)
        return -0.5 * (weight * log_p[np.arange(45), labels]).sum() + (w**2).sum() / 2

    best = scipy.optimize.minimize(objective, np.zeros(21), tol=1e-10).x
    logits = (test - mean) / scale @ best[:18].reshape(6, 3) + best[18:]
    np.testing.assert_allclose(found, scipy.special.softmax(logits, axis=1), atol=2e-3)


def test_the_penalty_is_chosen_on_validation(monkeypatch):
    features, labels = blobs(90, 0)
    validation, validation_labels = blobs(60, 1)
    test, test_labels = blobs(60, 2)
    monkeypatch.setattr(probe, 'STRENGTHS', (1e-9, 1.0))
    rows = features, labels, validation, validation_labels, test
    chosen = probe.linear_probe(*rows, classes=3)
    assert (chosen.argmax(axis=1) == test_labels).mean() > 0.9
    assert chosen.max() > 0.9  # C = 1e-9 would leave every probability near a third
    monkeypatch.setattr(probe, 'STRENGTHS', (1e-9, 1e-8))
    assert probe.linear_probe(*rows, classes=3).max() < 0.4


def test_a_class_without_training_rows_has_probability_zero():
    features, labels = blobs(40, 0, classes=2)
    found = probe.linear_probe(features, 2 * labels, features, 2 * labels, features, classes=4)
    np.testing.assert_array_equal(found[:, [1, 3]], 0)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert ((found.argmax(axis=1) == 2 * labels).mean()) > 0.9


def test_a_constant_feature_does_no_harm():
    features, labels = blobs(40, 0)
    features[:, 0] = 3
    found = probe.linear_probe(features, labels, features, labels, features, classes=3)
    assert np.isfinite(found).all()


def test_a_fit_that_does_not_converge_is_reported(monkeypatch):
    monkeypatch.setattr(probe, '_MAX_ITERATIONS', 1)
    features, labels = blobs(60, 0, spread=4.0)
    with warnings.catch_warnings():
        warnings.simplefilter('always')
        with pytest.warns(RuntimeWarning, match='did not converge in 1 iterations'):
            probe.linear_probe(features, labels, features, labels, features, classes=3)


def test_unusable_labels_are_refused():
    features, labels = blobs(12, 0)
    with pytest.raises(InputError, match='one class only'):
        probe.linear_probe(features, 0 * labels, features, labels, features, classes=3)
    with pytest.raises(InputError, match='no validation rows'):
        probe.linear_probe(features, labels, features[:0], labels[:0], features, classes=3)


def findings(n, seed, spread=3.0):
    """Three findings that come together with features, a third of the labels missing."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, (n, 3)).astype(float)
    directions = np.random.default_rng(98).normal(size=(3, 6))
    features = targets @ directions + spread * random.normal(size=(n, 6))
    targets[random.random((n, 3)) < 0.3] = np.nan
    return features, targets


def test_multi_label_probabilities_are_those_of_direct_minimisations(monkeypatch):
    """Minimises C * cross-entropy + |w|^2 / 2 of each class's labelled rows with SciPy."""
    monkeypatch.setattr(probe, 'STRENGTHS', (0.5,))
    features, targets = findings(60, 0)
    test, _ = findings(20, 1)
    found = probe.linear_probe_multilabel(features, targets, features, targets, test, classes=3)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    for i in range(3):
        known = ~np.isnan(targets[:, i])
        x, sign = (features[known] - mean) / scale, 2 * targets[known, i] - 1

        def objective(flat, x=x, sign=sign):
            margins = sign * (x @ flat[:6] + flat[6])
            return -0.5 * scipy.special.log_expit(margins).sum() + (flat[:6] ** 2).sum() / 2

        best = scipy.optimize.minimize(objective, np.zeros(7), tol=1e-10).x
        logits = (test - mean) / scale @ best[:6] + best[6]
        np.testing.assert_allclose(found[:, i], scipy.special.expit(logits), atol=2e-3)


def test_multi_label_penalty_has_the_best_mean_auc_on_validation(monkeypatch):
    features, targets = findings(25, 0)
    validation, validation_targets = findings(60, 1)
    test, _ = findings(20, 2)
    rows = features, targets, validation, validation_targets
    aucs = []
    for strength in probe.STRENGTHS:
        monkeypatch.setattr(probe, 'STRENGTHS', (strength,))
        scores = probe.linear_probe_multilabel(*rows, validation, classes=3)
        known = ~np.isnan(validation_targets)
        aucs.append(
            np.mean(
                [
                    sklearn.metrics.roc_auc_score(
                        validation_targets[known[:, i], i], scores[known[:, i], i]
                    )
                    for i in range(3)
                ]
            )
        )
    monkeypatch.undo()
    assert max(aucs) > min(aucs) and np.argmax(aucs) > 0
    found = probe.linear_probe_multilabel(*rows, test, classes=3)
    monkeypatch.setattr(probe, 'STRENGTHS', (probe.STRENGTHS[np.argmax(aucs)],))
    expected = probe.linear_probe_multilabel(*rows, test, classes=3)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # the first is started warm


def test_a_finding_that_training_does_not_vary_has_its_share():
    features, targets = findings(40, 0)
    always, unlabelled = np.ones((40, 1)), np.full((40, 1), np.nan)
    targets = np.concatenate([targets[:, :1], always, unlabelled], axis=1)
    found = probe.linear_probe_multilabel(features, targets, features, targets, features, classes=3)
    np.testing.assert_array_equal(found[:, 1:], np.tile([1, 0], (40, 1)))
    assert np.ptp(found[:, 0]) > 0.1


def test_unusable_findings_are_refused():
    features, targets = findings(12, 0)
    with pytest.raises(InputError, match='training labels'):
        probe.linear_probe_multilabel(features, 0 * targets, features, targets, features, classes=3)
    with pytest.raises(InputError, match='validation labels'):
        probe.linear_probe_multilabel(features, targets, features, 0 * targets, features, classes=3)
