import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from big_ssl.augment import geometry


@pytest.fixture(scope='module')
def image():
    """A smooth colourful picture with some noise, uint8."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.random((90, 120, 3)), (4, 4, 0))
    smooth = (smooth - smooth.min()) / np.ptp(smooth) * 235 + rng.random((90, 120, 3)) * 20
    return smooth.astype(np.uint8)


def test_flips(image):
    image = image.astype(np.float32)
    on, off = jnp.array(True), jnp.array(False)
    np.testing.assert_array_equal(geometry.flip(image, on, axis=1), image[:, ::-1])
    np.testing.assert_array_equal(geometry.flip(image, on, axis=0), image[::-1])
    np.testing.assert_array_equal(geometry.flip(image, off, axis=0), image)


@pytest.mark.parametrize('fill', [0.0, 0.4])
@pytest.mark.parametrize('degrees', [-45.0, 10.0, 31.7, 0.0])
def test_rotation_equals_scipy(image, degrees, fill):
    image = (image / 255).astype(np.float32)
    rotated = geometry.rotate(jnp.asarray(image), jnp.array(degrees, jnp.float32), fill)
    expected = ndimage.rotate(
        image.astype(np.float64), degrees, reshape=False, order=1, mode='grid-constant', cval=fill
    )
    np.testing.assert_allclose(rotated, expected, atol=3e-5)


def test_rotation_by_a_right_angle_moves_pixels(image):
    square = (image[:90, :90] / 255).astype(np.float32)
    rotated = geometry.rotate(jnp.asarray(square), jnp.array(90.0))
    np.testing.assert_allclose(rotated, np.rot90(square), atol=3e-5)


@pytest.mark.parametrize('box', [(0, 0, 90, 120), (3, 10, 70, 60), (20, 30, 25, 31)])
def test_crop_equals_tensorflow_inside_and_nearly_at_the_edge(image, box):
    tf = pytest.importorskip('tensorflow')
    y, x, h, w = box
    expected = tf.image.resize(
        image[y : y + h, x : x + w], (32, 32), method='bilinear', antialias=True
    ).numpy()
    cropped = np.asarray(geometry.crop_and_resize(image, jnp.array(box, jnp.float32), 32))
    difference = np.abs(cropped - expected)
    assert difference[2:-2, 2:-2].max() < 1e-2
    assert difference.mean() < 1


@pytest.mark.parametrize('box', [(3, 10, 70, 60), (2.5, 7.25, 60.5, 80), (20, 30, 25, 31)])
def test_crop_equals_pillow(image, box):
    y, x, h, w = box
    expected = Image.fromarray(image).resize(
        (32, 32), Image.Resampling.BILINEAR, box=(x, y, x + w, y + h)
    )
    cropped = geometry.crop_and_resize(image, jnp.array(box, jnp.float32), 32)
    difference = np.abs(np.asarray(cropped) - np.asarray(expected, np.float32))
    assert difference.max() < 1.1  # Pillow rounds after each of its two passes.
    assert difference.mean() < 0.4


def test_crop_asks_for_full_precision(image):
    program = jax.jit(geometry.crop_and_resize, static_argnums=2).lower(image, jnp.ones(4), 16)
    assert 'HIGHEST' in program.as_text()
    assert 'DEFAULT' not in program.as_text()
