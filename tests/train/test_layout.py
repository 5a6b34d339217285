"""State cut over the devices: the same training with less memory on each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from big_ssl.models import resnet
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.optimizer import make_optimizer
from big_ssl.train.state import SHARDINGS, abstract_state, initial_state

STEPS, SIZE = 3, 16
RATE = optax.constant_schedule(0.5)


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1, 1))


def mesh_of(devices):
    return mesh_lib.make_mesh(jax.devices()[:devices])


def parts_of():
    network = ClassifierNetwork(resnet.ResNet(18, 0.5, stem='small_images'), 8)
    return network, make_optimizer('lars', RATE, weight_decay=1e-3)


def loss_of(network):
    def loss(params, state, batch):
        variables = {'params': params, 'batch_stats': state.batch_stats}
        out, updates = network.apply(variables, batch['x'], train=True, mutable=['batch_stats'])
        changed = {'batch_stats': updates['batch_stats']}
        return jnp.mean((out['logits'] - batch['y']) ** 2), ({}, changed)

    return loss


def batches():
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        images = rng.normal(size=(16, SIZE, SIZE, 3)).astype(np.float32)
        yield {'x': images, 'y': rng.normal(size=(16, 8)).astype(np.float32)}


def trained(shard, devices=8):
    """State after some steps, losses, and the compiled step."""
    mesh = mesh_of(devices)
    network, optimizer = parts_of()
    state = initial_state(network, optimizer, image_size=SIZE, seed=0, mesh=mesh, shard=shard)
    step = build.make_update(loss_of(network), optimizer, RATE, mesh, shard)
    compiled = step.lower(state, mesh_lib.spread(next(batches()), mesh)).compile()
    losses = []
    for batch in batches():
        state, metrics = step(state, mesh_lib.spread(batch, mesh))
        losses.append(float(metrics['loss']))
    return state, losses, compiled


@pytest.fixture(scope='module')
def ways():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGE_SIZES, 18, (1, 1))
        return {shard: trained(shard) for shard in SHARDINGS}


@pytest.mark.parametrize('shard', list(SHARDINGS)[1:])
def test_the_same_training(ways, shard):
    """Differences are small beside what training changed."""
    plain, losses, _ = ways['none']
    state, found, _ = ways[shard]
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    network, optimizer = parts_of()
    before = initial_state(network, optimizer, image_size=SIZE, seed=0, mesh=mesh_of(1)).params
    for (path, a), b, old in zip(
        jax.tree_util.tree_leaves_with_path(mesh_lib.fetch(state.params)),
        jax.tree.leaves(mesh_lib.fetch(plain.params)),
        jax.tree.leaves(before),
    ):
        moved = np.linalg.norm(b - old)
        assert moved > 0 and np.linalg.norm(a - b) < 5e-3 * moved, path


def bytes_on_a_device(tree):
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


def test_what_lies_on_a_device(ways):
    whole = {name: bytes_on_a_device(getattr(ways['none'][0], name))
             for name in ('params', 'opt_state', 'batch_stats')}  # fmt: skip
    for shard, cut in (('optimizer', ('opt_state',)), ('all', ('opt_state', 'params'))):
        for name, size in whole.items():
            found = bytes_on_a_device(getattr(ways[shard][0], name))
            assert found == size if name not in cut else size / 8 <= found < size / 7
        memory, plain = (ways[way][2].memory_analysis() for way in (shard, 'none'))
        saved = 7 / 8 * sum(whole[name] for name in cut)
        less = plain.argument_size_in_bytes - memory.argument_size_in_bytes
        assert 0.95 * saved < less <= saved
        assert memory.alias_size_in_bytes > 0.95 * memory.output_size_in_bytes  # used again


def test_the_layout_stays_from_step_to_step(ways):
    for shard in SHARDINGS:
        network, optimizer = parts_of()
        planned = abstract_state(network, optimizer, image_size=SIZE, mesh=mesh_of(8), shard=shard)
        state = ways[shard][0]
        assert jax.tree.structure(planned) == jax.tree.structure(state)
        for a, b in zip(jax.tree.leaves(planned), jax.tree.leaves(state)):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim)


@pytest.mark.parametrize(
    ('saved', 'restored', 'devices'),
    [('all', 'none', 1), ('all', 'all', 4), ('none', 'all', 8), ('optimizer', 'all', 2)],
)
def test_saved_in_one_layout_and_restored_in_another(ways, tmp_path, saved, restored, devices):
    """On eight devices, then on fewer; the checksums are of whole arrays."""
    state = ways[saved][0]
    checkpoints = Checkpoints(epath.Path(tmp_path))
    checkpoints.save(state, {'data': 'x'})
    checkpoints.wait()
    network, optimizer = parts_of()
    target = abstract_state(
        network, optimizer, image_size=SIZE, mesh=mesh_of(devices), shard=restored
    )
    found = Checkpoints(epath.Path(tmp_path), read_only=True).restore(STEPS, target)
    jax.tree.map(np.testing.assert_array_equal, mesh_lib.fetch(found), mesh_lib.fetch(state))
    for a, b in zip(jax.tree.leaves(target), jax.tree.leaves(found)):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
