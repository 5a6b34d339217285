import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from big_ssl.losses.classification import (
    sigmoid_xent,
    softmax_xent,
    three_way_probabilities,
    three_way_xent,
)

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(9, 4)).astype(np.float32) * 3
WEIGHTS = np.array([1, 0, 2, 0.5, 1, 1, 0, 3, 1], np.float32)


def test_softmax_equals_scikit_learn():
    labels = np.array([0, 1, 2, 3, 3, 2, 1, 0, 2])
    p = np.exp(LOGITS.astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = log_loss(labels, p, sample_weight=WEIGHTS)
    np.testing.assert_allclose(softmax_xent(LOGITS, labels, WEIGHTS), expected, rtol=1e-6)


def test_label_smoothing_equals_its_definition():
    labels = RNG.integers(0, 4, 9)
    log_p = LOGITS - np.log(np.exp(LOGITS.astype(np.float64)).sum(axis=1, keepdims=True))
    losses = [-(0.8 * log_p[i, label] + 0.2 * log_p[i].mean()) for i, label in enumerate(labels)]
    loss = softmax_xent(LOGITS, labels, WEIGHTS, label_smoothing=0.2)
    np.testing.assert_allclose(loss, np.average(losses, weights=WEIGHTS), rtol=1e-6)


def test_sigmoid_leaves_missing_targets_out():
    targets = RNG.integers(0, 2, (9, 4)).astype(np.float32)
    targets[RNG.random((9, 4)) < 0.4] = np.nan
    p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    terms = [
        (-(t * np.log(p[i, k]) + (1 - t) * np.log(1 - p[i, k])), WEIGHTS[i])
        for (i, k), t in np.ndenumerate(targets)
        if not np.isnan(t)
    ]
    losses, weights = np.transpose(terms)
    expected = np.average(losses, weights=weights)
    np.testing.assert_allclose(sigmoid_xent(LOGITS, targets, WEIGHTS), expected, rtol=1e-6)

    gradient = jax.grad(sigmoid_xent)(jnp.asarray(LOGITS), targets, WEIGHTS)
    known = ~np.isnan(targets)
    expected_gradient = np.where(known, (p - np.nan_to_num(targets)) * WEIGHTS[:, None], 0)
    expected_gradient /= (known * WEIGHTS[:, None]).sum()
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)


@pytest.mark.parametrize(
    'loss, targets',
    [
        (softmax_xent, np.zeros(9, np.int32)),
        (sigmoid_xent, np.zeros((9, 4), np.float32)),
        (sigmoid_xent, np.full((9, 4), np.nan, np.float32)),
    ],
)
def test_nothing_left_gives_zero(loss, targets):
    weights = np.ones(9, np.float32) if np.isnan(targets).any() else np.zeros(9, np.float32)
    value, gradient = jax.value_and_grad(loss)(jnp.asarray(LOGITS), targets, weights)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(LOGITS))


@pytest.mark.parametrize('loss', [softmax_xent, sigmoid_xent])
def test_bfloat16_logits_are_computed_in_float32(loss):
    logits = LOGITS.astype(jnp.bfloat16)
    targets = np.zeros(9, np.int32) if loss is softmax_xent else np.zeros((9, 4), np.float32)
    value = loss(logits, targets, WEIGHTS)
    assert value.dtype == jnp.float32
    x = logits.astype(np.float64)
    losses = np.log(np.exp(x).sum(axis=1)) - x[:, 0]
    if loss is sigmoid_xent:
        losses = np.log1p(np.exp(x)).mean(axis=1)
    np.testing.assert_allclose(value, np.average(losses, weights=WEIGHTS), rtol=1e-6)


def test_extreme_logits_stay_finite():
    logits, weights = jnp.array([[200.0, -200.0]]), jnp.ones(1)
    np.testing.assert_allclose(softmax_xent(logits, jnp.array([1]), weights), 400)
    np.testing.assert_allclose(sigmoid_xent(logits, jnp.array([[0.0, 1.0]]), weights), 200)


def test_three_outcomes_of_each_class():
    """Two classes of three logits each, against a loop over the definition."""
    logits = RNG.normal(size=(9, 6)).astype(np.float32) * 3
    targets = RNG.integers(0, 3, (9, 2)).astype(np.float32)
    targets[[1, 4, 4], [0, 0, 1]] = np.nan
    terms, positive = [], np.zeros((9, 2))
    for (i, c), target in np.ndenumerate(targets):
        exps = np.exp(logits[i, 3 * c : 3 * c + 3].astype(np.float64))
        positive[i, c] = exps[1] / (exps[0] + exps[1])
        if not np.isnan(target):
            terms.append((-np.log(exps[int(target)] / exps.sum()), WEIGHTS[i]))
    losses, weights = np.transpose(terms)
    loss = three_way_xent(logits, targets, WEIGHTS)
    np.testing.assert_allclose(loss, np.average(losses, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(three_way_probabilities(logits), positive, rtol=1e-5)
    gradient = jax.grad(three_way_xent)(jnp.asarray(logits), targets, WEIGHTS)
    assert np.isfinite(gradient).all() and (gradient[4] == 0).all()
