"""Against jax.lax.conv_general_dilated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.models.convolution import conv_general_dilated

CONVOLUTIONS = [  # image, kernel, stride, padding, channels, features
    ((9, 12), 3, 1, [(1, 1), (1, 1)], 5, 7),
    ((9, 12), 3, 2, [(1, 1), (1, 1)], 64, 8),
    ((16, 17), 7, 2, [(3, 3), (3, 3)], 3, 8),
    ((16, 17), 7, 2, 'SAME', 3, 8),
    ((8, 8), 3, 2, 'SAME', 16, 4),
    ((2, 5), 3, 1, [(1, 1), (1, 1)], 6, 6),
    ((3, 3), 3, 1, [(1, 1), (1, 1)], 6, 6),
]
PRODUCTS = [
    ((8, 7), 1, 1, [(0, 0), (0, 0)], 6, 5),
    ((8, 7), 1, 2, [(0, 0), (0, 0)], 6, 5),
    ((1, 5), 1, 1, [(0, 0), (0, 0)], 6, 6),
    ((2, 2), 3, 1, [(1, 1), (1, 1)], 50, 6),
    ((3, 4), 3, 2, [(1, 1), (1, 1)], 6, 6),
    ((4, 4), 3, 2, [(1, 1), (1, 1)], 6, 6),
    ((1, 1), 3, 1, [(1, 1), (1, 1)], 6, 6),
    ((2, 2), 3, 2, 'SAME', 6, 6),
    ((8, 9), 7, 2, 'SAME', 3, 6),
]


def arrays(size, width, channels, features):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, *size, channels)).astype(np.float32)
    return x, rng.normal(size=(width, width, channels, features)).astype(np.float32)


def both(stride, padding):
    """Ours and XLA's."""
    layout = ('NHWC', 'HWIO', 'NHWC')
    strides = (stride, stride)
    return (
        lambda x, k: conv_general_dilated(x, k, strides, padding, lhs_dilation=(1, 1)),
        lambda x, k: jax.lax.conv_general_dilated(x, k, strides, padding, dimension_numbers=layout),
    )


@pytest.mark.parametrize('case', CONVOLUTIONS + PRODUCTS, ids=str)
def test_values_and_gradients(case):
    size, width, stride, padding, *channels = case
    given = arrays(size, width, *channels)
    ours, theirs = both(stride, padding)
    out = theirs(*given)
    weights = np.random.default_rng(1).normal(size=out.shape).astype(np.float32)
    np.testing.assert_allclose(jax.jit(ours)(*given), out, rtol=1e-5, atol=1e-4)
    gradients = (
        jax.jit(jax.grad(lambda x, kernel, f=f: jnp.sum(f(x, kernel) * weights), (0, 1)))(*given)
        for f in (ours, theirs)
    )
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize('case', CONVOLUTIONS + PRODUCTS, ids=str)
def test_a_cpu_multiplies_where_a_convolution_is_slow(case):
    size, width, stride, padding, *channels = case
    function = jax.jit(both(stride, padding)[0]).trace(*arrays(size, width, *channels))
    assert ('convolution' in function.lower(lowering_platforms=('cpu',)).as_text()) == (
        case in CONVOLUTIONS
    )
    assert 'convolution' in function.lower(lowering_platforms=('tpu',)).as_text()


@pytest.mark.parametrize('case', CONVOLUTIONS, ids=str)
def test_what_a_cpu_convolves_is_computed_once(case):
    size, width, stride, padding, *channels = case
    x, kernel = arrays(size, width, *channels)

    def maxima(convolve):
        def loss(scale, kernel):
            return jnp.sum(convolve(jnp.maximum(scale * x, 0.1), kernel) ** 2)

        program = jax.jit(jax.grad(loss, 1)).lower(jnp.ones(()), kernel).compile()
        return program.as_text().count(' maximum(')

    ours, theirs = both(stride, padding)
    assert maxima(ours) == 1
    assert maxima(theirs) == 2, 'XLA keeps it by itself: the division has no use any more'


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_not_a_bit_changes(dtype):
    x, kernel = (jnp.asarray(a, dtype) for a in arrays((9, 12), 3, 5, 7))
    ours, theirs = (jax.jit(function) for function in both(1, [(1, 1), (1, 1)]))
    assert ours(x, kernel).dtype == dtype
    assert (ours(x, kernel) == theirs(x, kernel)).all()


def test_images_stay_on_their_devices():
    """A product of images on several devices is each device's own."""
    mesh = jax.make_mesh((8,), ('data',))
    spread = jax.NamedSharding(mesh, jax.P('data'))
    x, kernel = arrays((8, 8), 1, 16, 16)
    given = jax.device_put(x, spread), jax.device_put(kernel, jax.NamedSharding(mesh, jax.P()))
    program = jax.jit(both(2, [(0, 0), (0, 0)])[0]).lower(*given).compile()
    assert program.output_shardings.is_equivalent_to(spread, 4)
    assert 'all-gather' not in program.as_text()


@pytest.mark.parametrize('option', [{'lhs_dilation': (2, 2)}, {'feature_group_count': 2}])
def test_other_convolutions_are_refused(option):
    x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2))
    with pytest.raises(ValueError, match='is not supported'):
        conv_general_dilated(x, kernel, (1, 1), 'SAME', **option)
