import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.methods.byol import byol
from tests.losses.on_devices import differences, make_mesh, place, random_views, unit


def run(prediction, target, devices=1):
    """Loss and figure, and the gradients of both arguments."""
    mesh = make_mesh(devices)
    function = jax.jit(jax.value_and_grad(byol, argnums=(0, 1), has_aux=True))
    return function(place(prediction, mesh, 'data'), place(target, mesh, 'data'))


def naive(prediction, target):
    """Squared distances of unit vectors, pair by pair, in float64; and the mean cosine."""
    prediction, target = unit(prediction), unit(target)
    pairs = [
        (p[u], t[w])
        for p, t in zip(prediction, target)
        for u, w in itertools.permutations(range(len(p)), 2)
    ]
    distances = [2 - 2 * sum(p * t) for p, t in pairs]
    return 2 * np.mean(distances), np.mean([sum(p * t) for p, t in pairs])


@pytest.mark.parametrize('views', [2, 3])
@pytest.mark.parametrize('devices', [1, 2, 8])
def test_equals_the_definition(views, devices):
    prediction, target = random_views(16, views, 5), random_views(16, views, 5, seed=1)
    target += prediction
    (loss, figures), (gradient, of_target) = run(prediction, target, devices)
    expected, similarity = naive(prediction, target)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(figures['target_similarity'], similarity, rtol=1e-5)
    expected = differences(lambda prediction: naive(prediction, target)[0], prediction)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(of_target, np.zeros_like(target))


def test_two_views_are_the_sum_of_both_directions():
    """Eq. 2 of the paper and its twin with the views exchanged, of one example by hand."""
    prediction = np.array([[[3.0, 0.0], [0.0, 2.0]]], np.float32)
    target = np.array([[[1.0, 1.0], [-5.0, 0.0]]], np.float32)
    (loss, figures), _ = run(prediction, target)
    first = 2 - 2 * -1  # east meets west
    second = 2 - 2 / np.sqrt(2)  # north meets north-east
    np.testing.assert_allclose(loss, first + second, rtol=1e-6)
    np.testing.assert_allclose(figures['target_similarity'], (np.sqrt(0.5) - 1) / 2, rtol=1e-6)


def test_zero_vectors_have_finite_gradients():
    prediction, target = random_views(6, 2, 4), random_views(6, 2, 4, seed=1)
    prediction[2, 1] = target[2, 0] = target[4] = 0
    (loss, _), gradients = run(prediction, target)
    np.testing.assert_allclose(loss, naive(prediction, target)[0], rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_lengths_do_not_matter_and_bfloat16_is_computed_in_float32():
    prediction = random_views(8, 2, 4).astype(jnp.bfloat16)
    target = random_views(8, 2, 4, seed=1).astype(jnp.bfloat16)
    lengths = np.exp2(np.arange(16) % 7 - 3).reshape(8, 2, 1).astype(jnp.bfloat16)
    (loss, _), (gradient, _) = run(prediction * lengths, target * lengths)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, naive(prediction, target)[0], rtol=1e-5)


def test_the_figure_carries_no_gradient():
    z = random_views(8, 2, 4)
    gradient = jax.jit(jax.grad(lambda z: byol(z, z[::-1])[1]['target_similarity']))(z)
    np.testing.assert_array_equal(gradient, np.zeros_like(z))


@pytest.mark.parametrize(
    'shape, other', [((8, 1, 4), (8, 1, 4)), ((8, 4), (8, 4)), ((8, 2, 4), (1, 2, 4))]
)
def test_wrong_shapes(shape, other):
    with pytest.raises(ValueError, match='expected prediction and target'):
        byol(jnp.ones(shape), jnp.ones(other))


def test_products_ask_for_full_float32():
    z = random_views(8, 2, 4)
    text = jax.jit(jax.grad(lambda z: byol(z, z)[0])).lower(z).as_text()
    dots = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
    assert dots and all('precision = [HIGHEST, HIGHEST]' in line for line in dots)
