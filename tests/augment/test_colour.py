import colorsys
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.augment import colour

FACTORS = [0.0, 0.2, 0.7, 1.0, 1.8]
TURNS = [-0.2, -0.05, 0.0, 0.13, 0.5]


@pytest.fixture(scope='module')
def image():
    """Noise, with the corners of the colour cube, greys and black among it."""
    rng = np.random.default_rng(0)
    image = rng.random((9, 12, 3)).astype(np.float32)
    image[0, :8] = list(itertools.product([0.0, 1.0], repeat=3))
    image[1, :5] = np.linspace(0, 1, 5)[:, None]
    return image


@pytest.mark.parametrize('factor', FACTORS)
def test_brightness_multiplies_and_clips(image, factor):
    np.testing.assert_allclose(
        colour.brightness(image, factor), np.clip(image * factor, 0, 1), atol=1e-6
    )


@pytest.mark.parametrize('factor', FACTORS)
def test_contrast_equals_tensorflow(image, factor):
    tf = pytest.importorskip('tensorflow')
    expected = np.clip(tf.image.adjust_contrast(image, factor).numpy(), 0, 1)
    np.testing.assert_allclose(colour.contrast(image, factor), expected, atol=2e-6)


@pytest.mark.parametrize('factor', FACTORS)
def test_saturation_equals_tensorflow(image, factor):
    tf = pytest.importorskip('tensorflow')
    expected = np.clip(tf.image.adjust_saturation(image, factor).numpy(), 0, 1)
    np.testing.assert_allclose(colour.saturation(image, factor), expected, atol=2e-6)


@pytest.mark.parametrize('delta', TURNS)
def test_hue_equals_tensorflow(image, delta):
    tf = pytest.importorskip('tensorflow')
    expected = np.clip(tf.image.adjust_hue(image, delta).numpy(), 0, 1)
    np.testing.assert_allclose(colour.hue(image, delta), expected, atol=4e-6)


def test_grey_equals_tensorflow(image):
    tf = pytest.importorskip('tensorflow')
    expected = np.repeat(tf.image.rgb_to_grayscale(image).numpy(), 3, axis=-1)
    np.testing.assert_allclose(colour.to_grey(image), expected, atol=1e-6)


def test_hsv_equals_colorsys(image):
    flat = image.reshape(-1, 3).astype(np.float64)
    expected = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in flat])
    hsv = np.asarray(colour.rgb_to_hsv(image)).reshape(-1, 3)
    np.testing.assert_allclose(hsv, expected, atol=1e-6)
    turned = expected + [0.3, 0, 0]
    back = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in turned])
    np.testing.assert_allclose(colour.hsv_to_rgb(turned.astype(np.float32)), back, atol=3e-6)


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_chains_tensorflow_in_the_given_order(image, order):
    tf = pytest.importorskip('tensorflow')
    factors = [1.4, 0.6, 1.5, -0.17]
    operations = [
        tf.multiply,
        tf.image.adjust_contrast,
        tf.image.adjust_saturation,
        tf.image.adjust_hue,
    ]
    expected = tf.constant(image)
    for operation in order:
        expected = tf.clip_by_value(operations[operation](expected, factors[operation]), 0.0, 1.0)
    jittered = colour.jitter(jnp.asarray(image), jnp.array(factors), jnp.array(order))
    np.testing.assert_allclose(jittered, expected.numpy(), atol=1e-5)


def test_jitter_of_grey_is_that_of_three_equal_channels(image):
    grey = jnp.asarray(image[..., :1])
    factors, order = jnp.array([1.4, 0.6, 1.5, -0.17]), jnp.array([2, 1, 3, 0])
    expected = colour.jitter(jnp.broadcast_to(grey, image.shape), factors, order)
    jittered = colour.jitter(grey, factors, order)
    np.testing.assert_allclose(jittered, expected[..., :1], atol=1e-6)


def test_one_order_for_a_batch_keeps_the_branches():
    def batch(images, factors, order):
        return jax.vmap(colour.jitter, in_axes=(0, 0, None))(images, factors, order)

    program = str(jax.make_jaxpr(batch)(jnp.zeros((2, 8, 8, 3)), jnp.ones((2, 4)), jnp.arange(4)))
    assert program.count('cond[') == 1


@pytest.mark.parametrize(
    ('strength', 'low', 'high'),
    [
        (1.0, (0.2, 0.2, 0.2, -0.2), (1.8, 1.8, 1.8, 0.2)),
        (0.5, (0.6, 0.6, 0.6, -0.1), (1.4, 1.4, 1.4, 0.1)),
        (2.0, (0.0, 0.0, 0.0, -0.4), (2.6, 2.6, 2.6, 0.4)),
    ],
)
def test_factors_span_the_published_ranges(strength, low, high):
    np.testing.assert_allclose(colour.jitter_factors(jnp.zeros(4), strength), low, atol=1e-6)
    np.testing.assert_allclose(colour.jitter_factors(jnp.ones(4), strength), high, atol=1e-6)
