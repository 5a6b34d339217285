import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.methods.vicreg import vicreg
from tests.losses.on_devices import differences, make_mesh, place, random_views


def run(z, devices=1, **weights):
    function = jax.value_and_grad(functools.partial(vicreg, **weights), has_aux=True)
    return jax.jit(function)(place(z, make_mesh(devices), 'data'))


def naive(z):
    """Invariance, variance and covariance, number by number, in float64."""
    z = np.asarray(z, np.float64)
    examples, views, dim = z.shape
    pairs = itertools.combinations(range(views), 2)
    invariance = np.mean([(z[:, u] - z[:, w]) ** 2 for u, w in pairs])
    variance, covariance = [], []
    for u in range(views):
        centred = z[:, u] - z[:, u].mean(axis=0)
        squares = 0.0
        for p, q in itertools.product(range(dim), repeat=2):
            cov = sum(centred[:, p] * centred[:, q]) / (examples - 1)
            if p == q:
                variance.append(max(0, 1 - np.sqrt(cov + 1e-4)))
            else:
                squares += cov**2
        covariance.append(squares / dim)
    return invariance, np.mean(variance), 2 / views * sum(covariance)


def loss_of(z, weights=(25, 25, 1)):
    return np.dot(weights, naive(z))


@pytest.mark.parametrize('views', [2, 3])
@pytest.mark.parametrize('devices', [1, 2, 8])
def test_equals_the_definition(views, devices):
    # Dimensions of deviations on both sides of 1, where the variance term is cut off.
    z = random_views(16, views, 5) * np.array([0.3, 0.6, 1, 1.5, 2], np.float32)
    (loss, figures), gradient = run(z, devices)
    assert loss.dtype == jnp.float32
    for name, expected in zip(('invariance', 'variance', 'covariance'), naive(z)):
        np.testing.assert_allclose(figures[name], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, loss_of(z), rtol=1e-5)
    expected = differences(loss_of, z)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_two_views_are_those_of_the_published_code():
    """main_vicreg.py of facebookresearch/vicreg, line by line, in NumPy."""
    z = random_views(12, 2, 4)
    x, y = z.astype(np.float64).swapaxes(0, 1)
    repr_loss = ((x - y) ** 2).mean()
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    std_x, std_y = np.sqrt(x.var(axis=0, ddof=1) + 1e-4), np.sqrt(y.var(axis=0, ddof=1) + 1e-4)
    std_loss = np.maximum(0, 1 - std_x).mean() / 2 + np.maximum(0, 1 - std_y).mean() / 2
    cov_x, cov_y = (x.T @ x) / 11, (y.T @ y) / 11
    cov_loss = sum((cov[~np.eye(4, dtype=bool)] ** 2).sum() / 4 for cov in (cov_x, cov_y))
    expected = 3 * repr_loss + 5 * std_loss + 7 * cov_loss
    (loss, _), _ = run(z, invariance=3, variance=5, covariance=7)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_collapse():
    """Of a constant nothing is left but the floor under the deviation, sqrt(1e-4)."""
    (loss, figures), gradient = run(np.full((8, 2, 4), 3, np.float32))
    np.testing.assert_allclose(figures['variance'], 1 - 0.01, rtol=1e-6)
    assert figures['invariance'] == figures['covariance'] == 0
    np.testing.assert_allclose(loss, 25 * 0.99, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_zero_vectors_have_finite_gradients():
    z = random_views(8, 3, 4)
    z[2, 1] = z[5] = 0
    for some in (z, np.zeros_like(z)):
        (loss, _), gradient = run(some)
        np.testing.assert_allclose(loss, loss_of(some), rtol=1e-5)
        assert np.isfinite(gradient).all()


def test_far_from_the_origin():
    """A common offset leaves all terms as they are."""
    z = random_views(16, 2, 4)
    np.testing.assert_allclose(run(z + 100)[0][0], loss_of(z), rtol=1e-4)


def test_bfloat16_is_computed_in_float32():
    z = random_views(16, 2, 4).astype(jnp.bfloat16)
    (loss, _), gradient = run(z)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, loss_of(z), rtol=1e-5)


def test_figures_carry_no_gradient():
    z = random_views(8, 2, 4)
    gradient = jax.jit(jax.grad(lambda z: sum(vicreg(z)[1].values())))(z)
    np.testing.assert_array_equal(gradient, np.zeros_like(z))


@pytest.mark.parametrize('shape', [(1, 2, 4), (8, 1, 4), (8, 4)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match='expected z'):
        vicreg(jnp.ones(shape))


def test_products_ask_for_full_float32():
    text = jax.jit(jax.grad(lambda z: vicreg(z)[0])).lower(random_views(8, 2, 4)).as_text()
    dots = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
    assert len(dots) >= 2
    assert all('precision = [HIGHEST, HIGHEST]' in line for line in dots)
