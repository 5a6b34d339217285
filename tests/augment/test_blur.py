import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from big_ssl.augment.blur import blur

ON = jnp.array(True)


def convolve(image, sigma):
    """SimCLR's rule by SciPy in float64: radius of a tenth of the side, zeros outside."""
    radius = int(image.shape[0] // 10 / 2)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    image = ndimage.convolve1d(image.astype(np.float64), kernel, axis=0, mode='constant')
    return ndimage.convolve1d(image, kernel, axis=1, mode='constant')


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.0])
@pytest.mark.parametrize('shape', [(64, 64, 3), (32, 32, 1), (47, 61, 3), (8, 8, 3)])
def test_equals_scipy(shape, sigma):
    image = np.random.default_rng(1).random(shape).astype(np.float32)
    blurred = blur(jnp.asarray(image), jnp.array(sigma, jnp.float32), ON)
    np.testing.assert_allclose(blurred, convolve(image, sigma), atol=2e-6)


def test_equals_scipys_gaussian_filter_inside():
    image = np.random.default_rng(2).random((80, 80, 3)).astype(np.float32)
    blurred = blur(jnp.asarray(image), jnp.array(0.8, jnp.float32), ON)
    expected = ndimage.gaussian_filter(image, (0.8, 0.8, 0), truncate=4 / 0.8, mode='constant')
    np.testing.assert_allclose(blurred, expected, atol=3e-6)


def test_is_the_identity_where_not_drawn():
    image = np.random.default_rng(3).random((48, 48, 3)).astype(np.float32)
    kept = blur(jnp.asarray(image), jnp.array(2.0), jnp.array(False))
    np.testing.assert_array_equal(kept, image)


def test_products_ask_for_full_precision():
    compiled = jax.jit(blur).lower(jnp.zeros((48, 48, 3)), jnp.array(1.0), ON).as_text()
    products = [line for line in compiled.splitlines() if 'dot_general' in line]
    assert len(products) == 2
    assert all('precision = [HIGHEST, HIGHEST]' in line for line in products)
