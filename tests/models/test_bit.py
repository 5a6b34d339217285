"""Besides: timm's network as the reference, in tests/weights/test_bit_names.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.models.bit.network import BiT, StandardizedConv, feature_size
from big_ssl.models.resnet import network as resnet

PLAIN = {'depth': 50, 'width': 0.5}


@pytest.fixture(autouse=True)
def two_stages(monkeypatch):
    monkeypatch.setitem(resnet.BOTTLENECK_DEPTHS, 50, (1, 3))


def images(count: int = 3, size: int = 24) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (count, size, size, 3)).astype(np.float32)


@functools.cache
def variables(**how):
    network = BiT(**PLAIN, **how)
    return jax.jit(lambda x: network.init(jax.random.key(0), x, train=True))(images())


def test_convolution_by_hand():
    """Each output's kernel has mean 0 and variance 1 (arXiv:1903.10520), in float64."""
    x, conv = images(1, 5), StandardizedConv(4, 3, 1, jnp.float32)
    own = conv.init(jax.random.key(1), x)
    kernel = np.asarray(own['params']['kernel'], np.float64) * 3 + 0.7
    found = conv.apply({'params': {'kernel': kernel.astype(np.float32)}}, x)
    centred = kernel - kernel.mean(axis=(0, 1, 2))
    standard = centred / np.sqrt((centred**2).mean(axis=(0, 1, 2)) + 1e-10)
    padded = np.pad(x.astype(np.float64), [(0, 0), (1, 1), (1, 1), (0, 0)])
    for i in range(5):
        for j in range(5):
            expected = np.einsum('nhwc,hwck->nk', padded[:, i : i + 3, j : j + 3], standard)
            np.testing.assert_allclose(found[:, i, j], expected, rtol=1e-4, atol=1e-4)


def test_an_image_does_not_depend_on_the_others():
    """In training too, which has no statistics to learn."""
    network, own = BiT(**PLAIN), variables()
    assert own.keys() == {'params'}
    apply = jax.jit(network.apply, static_argnames='train')
    together = apply(own, images(), train=True)
    alone = apply(own, images()[1:2], train=False)
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-5, atol=1e-5)


@functools.cache
def loss_and_gradient(**how):
    """Of the same weights, however they are computed with."""

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        network = BiT(**PLAIN, **how)
        return jnp.square(network.apply({'params': params}, images(), train=True)).mean()

    return loss(variables()['params'])


@pytest.mark.parametrize(
    'how', [{'scan': True}, {'remat': 'norms'}, {'remat': 'blocks', 'scan': True}]
)
def test_computed_in_another_way_it_gives_the_same(how):
    one, other = loss_and_gradient(), loss_and_gradient(**how)
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(other[1])):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, variables(**how), variables())


def test_sizes(monkeypatch):
    monkeypatch.undo()
    for width in (1, 3):
        shape = jax.eval_shape(
            lambda x, width=width: BiT(50, width).init_with_output(jax.random.key(0), x, False),
            jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32),
        )[0].shape
        assert shape == (2, feature_size(width)) == (2, 2048 * width)


@pytest.mark.parametrize('wrong', [{'depth': 18}, {'width': 0.25}, {'normalization': 'mean'}])
def test_what_it_cannot_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BiT(**wrong)
