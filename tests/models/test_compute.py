"""Rematerialisation and scanning change how a network is computed, never what."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from big_ssl.models import resnet
from big_ssl.models.resnet import ResNet
from big_ssl.train.mesh import make_mesh
from big_ssl.train.optimizer import make_optimizer
from tests.models.test_resnet import randomise

PLAIN = ResNet(50, 0.25, stem='small_images')
WAYS = [{'remat': remat, 'scan': scan} for remat in ('none', 'norms', 'blocks') for scan in (0, 1)][
    1:
]
STEPS = 3
BLOCKS = (3, 1)  # of two stages; two blocks are equal
CONVOLUTIONS = 1 + 4 * 3 + 2


@pytest.fixture(autouse=True)
def two_stages(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 50, BLOCKS)


def batches():
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 8, 16, 16, 3)).astype(np.float32)


def variables_of(network):
    images = batches()[0]
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=True), images)


def loss_of(network):
    """Mean square distance of the features from fixed numbers, and the new statistics."""
    aim = np.random.default_rng(1).normal(size=(8, 128)).astype(np.float32)

    def loss(params, batch_stats, images):
        variables = {'params': params, 'batch_stats': batch_stats}
        features, updates = network.apply(variables, images, train=True, mutable=['batch_stats'])
        return jnp.mean((features - aim) ** 2), updates['batch_stats']

    return loss


def in_float64(network):
    """The network, and variables for it, where only a mistake is left of a difference."""
    variables = randomise(variables_of(network))
    wide = jax.tree.map(lambda x: x.astype(np.float64), variables)
    return dataclasses.replace(network, dtype=jnp.float64), wide


def trained(network, optimizer):
    """Losses, parameters, statistics and optimiser state after a few steps, by `in_float64`."""
    network, variables = in_float64(network)
    params, batch_stats = variables['params'], variables['batch_stats']
    opt_state = optimizer.init(params)
    loss = loss_of(network)

    @jax.jit
    def step(params, batch_stats, opt_state, images):
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, batch_stats), grads = gradient(params, batch_stats, images)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, value

    losses = []
    for images in batches().astype(np.float64):
        params, batch_stats, opt_state, value = step(params, batch_stats, opt_state, images)
        losses.append(value)
    return np.array(losses), params, batch_stats, opt_state


@pytest.fixture(scope='module')
def unrolled():
    """What LARS does to the plain network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGE_SIZES, 50, BLOCKS)
        with jax.enable_x64(True):
            return trained(PLAIN, lars())


def lars():
    return make_optimizer('lars', optax.constant_schedule(30.0), weight_decay=1e-2)


@pytest.mark.parametrize('way', WAYS, ids=str)
def test_several_steps_of_lars_are_those_of_the_plain_network(unrolled, way):
    """Norms are per block: stacked, they would be those of all equal blocks of a stage."""
    with jax.enable_x64(True):
        found = trained(dataclasses.replace(PLAIN, **way), lars())
    assert jax.tree.structure(found) == jax.tree.structure(unrolled)
    np.testing.assert_allclose(found[0], unrolled[0], rtol=1e-6)
    variables = randomise(variables_of(PLAIN))
    for kind, before in ((1, variables['params']), (2, variables['batch_stats'])):
        for (path, old), ours, theirs in zip(
            jax.tree_util.tree_leaves_with_path(before),
            jax.tree.leaves(found[kind]),
            jax.tree.leaves(unrolled[kind]),
        ):
            moved = np.linalg.norm(theirs - old)
            assert moved > 0.05 * np.linalg.norm(old)
            assert np.linalg.norm(ours - theirs) < 1e-4 * moved, path


def test_one_gradient_to_rounding():
    """In float64, where only a mistake is left of a difference."""
    with jax.enable_x64(True):
        images = batches()[0].astype(np.float64)
        _, variables = in_float64(PLAIN)
        arguments = variables['params'], variables['batch_stats'], images
        expected = None
        for way in ({}, {'remat': 'norms', 'scan': True}, {'remat': 'blocks'}):
            network = dataclasses.replace(PLAIN, dtype=jnp.float64, **way)
            found = jax.jit(jax.grad(loss_of(network), has_aux=True))(*arguments)
            expected = expected or found
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7), found, expected
            )


@pytest.mark.parametrize('scan', [False, True])
def test_without_training_the_features_are_the_same(scan):
    variables = randomise(variables_of(PLAIN))
    images = batches()[0]
    plain = PLAIN.apply(variables, images, train=False)
    other = dataclasses.replace(PLAIN, scan=scan, remat='blocks')
    np.testing.assert_allclose(other.apply(variables, images, train=False), plain, atol=1e-5)
    before = jax.tree.map(np.array, variables)
    jax.tree.map(np.testing.assert_array_equal, variables, before)


def test_it_starts_with_the_same_weights():
    images = batches()[0]

    def init(network):
        return jax.jit(lambda: network.init(jax.random.key(3), images, train=True))()

    other = dataclasses.replace(PLAIN, remat='blocks', scan=True)
    jax.tree.map(np.testing.assert_array_equal, init(other), init(PLAIN))


def convolutions(network, backward):
    """As an accelerator has them; some are products on a CPU."""
    variables = variables_of(network)
    loss = loss_of(network)
    function = jax.grad(loss, has_aux=True) if backward else loss
    given = variables['params'], variables['batch_stats'], batches()[0]
    lowered = jax.jit(function).trace(*given).lower(lowering_platforms=('tpu',))
    return lowered.as_text().count('stablehlo.convolution')


def test_equal_blocks_are_one_program():
    """One a convolution: stem, the first block of each stage with its shortcut, and one more."""
    assert convolutions(PLAIN, backward=False) == CONVOLUTIONS
    scanned = dataclasses.replace(PLAIN, scan=True)
    assert convolutions(scanned, backward=False) == CONVOLUTIONS - 3


def test_what_is_computed_again_in_the_backward_pass():
    """Plain: two gradients a convolution, but for the images'. `blocks` adds a forward pass."""
    counts = {
        remat: convolutions(dataclasses.replace(PLAIN, remat=remat), backward=True)
        for remat in ('none', 'norms', 'blocks')
    }
    assert counts['none'] == counts['norms'] == 3 * CONVOLUTIONS - 1
    assert counts['blocks'] == 4 * CONVOLUTIONS - 1


def test_less_is_kept():
    """Bytes from the forward to the backward pass; a stem of 16 channels, then 16, 16 and 64."""
    images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
    variables = variables_of(PLAIN)
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables['params']))

    def kept(network):
        def backward(params, batch_stats, images):
            loss = loss_of(network)
            return jax.vjp(lambda params: loss(params, batch_stats, images), params)[1]

        found = jax.eval_shape(backward, variables['params'], variables['batch_stats'], images)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(found)) - weights

    plain, norms, blocks = (
        kept(dataclasses.replace(PLAIN, remat=remat)) for remat in ('none', 'norms', 'blocks')
    )
    assert plain > 2 * norms > 4 * blocks


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match='unknown remat .*none, norms, blocks'):
        ResNet(remat='everything')


def test_the_batch_sharded_over_devices_gives_the_same():
    network = dataclasses.replace(PLAIN, scan=True, remat='norms')
    variables = randomise(variables_of(network))
    mesh = make_mesh()
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    images = batches()[0]
    gradient = jax.jit(jax.grad(loss_of(network), has_aux=True))
    arguments = variables['params'], variables['batch_stats']
    one = gradient(*arguments, images)
    eight = gradient(*arguments, jax.device_put(images, sharding))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), one, eight)
