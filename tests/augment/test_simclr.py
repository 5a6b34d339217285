import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import stats

from big_ssl.augment.simclr import Augmentation, augment, to_float

KEY, STEP = jax.random.key(3), jax.random.key(4)
NOTHING = Augmentation(
    jitter_probability=0, grey_probability=0, blur_probability=0, flip_horizontal=0
)
EVERYTHING = Augmentation(flip_vertical=0.3, rotation_degrees=30)
run = jax.jit(augment, static_argnums=4)


def pictures(batch, side=24, channels=3):
    shape = (batch, 2, side, side, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def only(**changes):
    return Augmentation(**{**vars(NOTHING), **changes})


def test_nothing_is_scaling():
    images = pictures(4)
    np.testing.assert_allclose(
        run(images, jnp.arange(4), KEY, STEP, NOTHING), images / 255.0, atol=1e-6
    )


def test_result_follows_from_the_example_alone():
    images, indices = pictures(8), np.array([5, 900, 2, 77, 31, 8, 2**31 - 1, 12])
    whole = run(images, indices, KEY, STEP, EVERYTHING)
    shuffled = [6, 1, 4]
    part = run(images[shuffled], indices[shuffled], KEY, STEP, EVERYTHING)
    np.testing.assert_allclose(part, np.asarray(whole)[shuffled], atol=1e-6)


def test_views_indices_and_seeds_differ():
    images = np.broadcast_to(pictures(1)[:, :1], (3, 2, 24, 24, 3))
    views = run(images, jnp.array([1, 2, 2]), KEY, STEP, Augmentation())
    other = run(images, jnp.array([1, 2, 2]), jax.random.key(9), STEP, Augmentation())
    assert np.abs(views[0] - views[1]).max() > 0.01
    assert np.abs(views[:, 0] - views[:, 1]).max(axis=(1, 2, 3)).min() > 0.01
    assert np.abs(views[0] - other[0]).max() > 0.01
    np.testing.assert_array_equal(views[1], views[2])


def test_sharding_over_devices_changes_nothing_and_talks_to_nobody():
    if jax.device_count() < 8:
        pytest.skip('needs 8 devices: XLA_FLAGS=--xla_force_host_platform_device_count=8')
    images, indices = pictures(16), jnp.arange(16)
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    batch = NamedSharding(mesh, P('data'))
    placed = jax.device_put(images, batch), jax.device_put(indices, batch)
    sharded = run(*placed, KEY, STEP, EVERYTHING)
    assert sharded.sharding.is_equivalent_to(batch, ndim=5)
    expected = run(images, indices, KEY, STEP, EVERYTHING)
    np.testing.assert_allclose(sharded, expected, atol=1e-6)
    program = run.lower(*placed, KEY, STEP, EVERYTHING).compile().as_text()
    assert not re.findall('all-gather|all-reduce|all-to-all|collective-permute', program)


@pytest.mark.parametrize('augmentation', [EVERYTHING, Augmentation(jitter_strength=2.0)])
def test_result_stays_in_range_and_has_three_channels(augmentation):
    for channels in (1, 3):
        views = run(pictures(6, channels=channels), jnp.arange(6), KEY, STEP, augmentation)
        assert views.shape == (6, 2, 24, 24, 3) and views.dtype == jnp.float32
        assert views.min() >= 0 and views.max() <= 1
        assert (channels == 3) or (np.ptp(views, axis=-1) == 0).all()


def test_grey_images_are_treated_like_three_equal_channels():
    grey = pictures(8, channels=1)
    one = run(grey, jnp.arange(8), KEY, STEP, EVERYTHING)
    three = run(np.repeat(grey, 3, axis=-1), jnp.arange(8), KEY, STEP, EVERYTHING)
    # Luma weights add up to 0.9999, hence not exactly.
    np.testing.assert_allclose(one, three, atol=2e-4)


@pytest.mark.parametrize(
    ('changes', 'happened', 'probability'),
    [
        ({'flip_horizontal': 0.5}, lambda x, y: (y == x[..., ::-1, :]).all((2, 3, 4)), 0.5),
        ({'flip_vertical': 0.3}, lambda x, y: (y == x[:, :, ::-1]).all((2, 3, 4)), 0.3),
        ({'grey_probability': 0.2}, lambda x, y: (np.ptp(y, axis=-1) == 0).all((2, 3)), 0.2),
        ({'jitter_probability': 0.8}, lambda x, y: (y != x).any((2, 3, 4)), 0.8),
        ({'blur_probability': 0.5}, lambda x, y: (y != x).any((2, 3, 4)), 0.5),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else '',
)
def test_frequencies(changes, happened, probability):
    images = pictures(1500, side=20)
    views = np.asarray(run(images, jnp.arange(1500), KEY, STEP, only(**changes)))
    count = happened(np.asarray(run(images, jnp.arange(1500), KEY, STEP, NOTHING)), views).sum()
    # A sigma below 0.19 leaves float32 pixels as they are: under 5% of the blurs.
    spare = 0.05 * 3000 * probability if 'blur_probability' in changes else 0
    assert stats.binom.ppf(1e-4, 3000, probability) - spare <= count
    assert count <= stats.binom.ppf(1 - 1e-4, 3000, probability)


def test_operations_are_drawn_independently():
    images = pictures(1500, side=20)
    half = dict.fromkeys(
        ['jitter_probability', 'grey_probability', 'flip_horizontal', 'flip_vertical'], 0.5
    )
    views = np.asarray(run(images, jnp.arange(1500), KEY, STEP, only(**half)))
    scaled = np.asarray(run(images, jnp.arange(1500), KEY, STEP, NOTHING))
    untouched = (views == scaled).all((2, 3, 4)).sum()
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], 3000, 0.5**4)
    assert low <= untouched <= high


def test_rotation_angles_are_uniform_up_to_the_limit():
    ramp = np.broadcast_to(np.arange(41, dtype=np.uint8)[:, None] * 4, (41, 41))
    images = np.broadcast_to(ramp[None, None, ..., None], (400, 2, 41, 41, 1))
    views = np.asarray(run(images, jnp.arange(400), KEY, STEP, only(rotation_degrees=30)))[..., 0]
    down, right = views[..., 21, 20] - views[..., 19, 20], views[..., 20, 21] - views[..., 20, 19]
    degrees = np.rad2deg(np.arctan2(right, down)).ravel()
    assert stats.kstest(degrees, stats.uniform(-30, 60).cdf).pvalue > 1e-3


def test_every_order_of_operations_is_drawn_and_shared_by_the_batch():
    """Brightness and contrast do not commute once clipped: a flat pair shows which came first."""
    images = np.broadcast_to(pictures(1)[:, :1], (2, 1, 24, 24, 3))
    steps = [
        run(images, jnp.array([1, 1]), KEY, jax.random.key(i), only(jitter_probability=1))
        for i in range(120)
    ]
    for views in steps:
        np.testing.assert_array_equal(views[0], views[1])
    assert len({np.asarray(views).round(3).tobytes() for views in steps}) > 12


@pytest.mark.parametrize(
    ('changes', 'operation'),
    [
        ({'blur_probability': 0.5}, 'dot_general'),
        ({'rotation_degrees': 30.0}, 'cos'),
        ({'jitter_probability': 0.8}, 'cond'),
        ({'flip_horizontal': 0.5}, 'rev'),
    ],
)
def test_probability_zero_compiles_nothing(changes, operation):
    def program(augmentation):
        jaxpr = jax.make_jaxpr(augment, static_argnums=4)
        return str(jaxpr(pictures(2), jnp.arange(2), KEY, STEP, augmentation))

    assert re.search(rf'\b{operation}\b', program(only(**changes)))
    assert not re.search(
        rf'\b{operation}\b',
        program(
            Augmentation(
                **{**vars(EVERYTHING), 'flip_vertical': 0.0, **dict.fromkeys(changes, 0.0)}
            )
        ),
    )


@pytest.mark.parametrize('channels', [1, 3])
def test_to_float(channels):
    images = pictures(2, channels=channels)
    expected = np.broadcast_to(images.astype(np.float64) / 255, (2, 2, 24, 24, 3))
    np.testing.assert_allclose(to_float(jnp.asarray(images)), expected, atol=1e-6)
