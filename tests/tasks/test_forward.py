"""GradCache: a batch in parts has the gradient of the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from big_ssl import config as config_lib
from big_ssl.data import feed
from big_ssl.data.batches import Batch, Cropped
from big_ssl.errors import InputError
from big_ssl.losses.ntxent import nt_xent
from big_ssl.methods import simclr
from big_ssl.models import resnet
from big_ssl.tasks import build
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.state import initial_state
from tests.helpers import smooth

BATCH, SIZE, CHUNKS = 16, 16, 2
OPTIMIZER = optax.sgd(1.0)  # so that the change of a parameter is its gradient


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1,))


def config_of(**settings):
    config = config_lib.defaults()
    config.update_from_flattened_dict(
        {
            'batch_size': BATCH,
            'image_size': SIZE,
            'method.temperature': 0.2,
            'method.projection_size': 16,
            **settings,
        }  # fmt: skip
    )
    return config_lib.settle(config)


def method_of(config, mesh):
    return simclr.make(config, resnet.ResNet(18, 0.25, stem='small_images'), mesh, 1)


def batch_of(mesh, size=BATCH):
    views = np.array([[smooth(SIZE, SIZE, seed=2 * i + v, noise=30) for v in (0, 1)]
                      for i in range(size)])  # fmt: skip
    each = {'views': views, 'examples': np.arange(size, dtype=np.uint32)}
    groups = np.arange(size, dtype=np.int32) // 3
    return Batch(mesh_lib.spread(each, mesh), mesh_lib.copy(groups, mesh), Cropped())


def made(config, devices):
    mesh = mesh_lib.make_mesh(jax.devices()[:devices])
    method = method_of(config, mesh)
    state = initial_state(method.network, OPTIMIZER, image_size=SIZE, seed=0, mesh=mesh)
    rng = np.random.default_rng(0)

    def move(path, x):
        """Away from no scale and no shift, and features of different images apart."""
        if x.ndim > 1:
            return np.asarray(x) * (30 if 'projection' in str(path) else 1)
        return np.asarray(x) + rng.uniform(-0.4, 0.4, x.shape).astype(np.float32)

    moved = {'params': state.params, 'batch_stats': state.batch_stats}
    moved = jax.tree.map_with_path(move, moved)
    state = state.replace(**mesh_lib.copy(moved, mesh))
    step = build.make_step(method, OPTIMIZER, lambda _: 1.0)
    return step, state, batch_of(mesh)


def taken(config, devices):
    """Gradient, new statistics and loss of one step."""
    step, state, batch = made(config, devices)
    before = jax.tree.map(np.array, mesh_lib.fetch(state.params))
    after, metrics = step(state, batch)
    gradient = jax.tree.map(np.subtract, before, mesh_lib.fetch(after.params))
    return gradient, mesh_lib.fetch(after.batch_stats), float(metrics['loss'])


def in_parts_without_a_cache(config, devices):
    """The same by plain differentiation: each part through the network, all kept, one loss."""
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    network = method_of(config, mesh).network
    _, state, batch = made(config, 1)
    images = feed.augmented(config, batch, jnp.zeros((), jnp.int32))
    place = np.arange(BATCH).reshape(devices, CHUNKS, -1).swapaxes(0, 1).reshape(CHUNKS, -1)

    def loss(params):
        z, statistics = jnp.zeros((BATCH, 2, 16)), []
        for part in place:
            variables = {'params': params, 'batch_stats': state.batch_stats}
            flat = images[part].reshape(-1, SIZE, SIZE, 3)
            out, updates = network.apply(variables, flat, train=True, mutable=['batch_stats'])
            z = z.at[part].set(out['z'].reshape(len(part), 2, -1))
            statistics.append(updates['batch_stats'])
        mean = jax.tree.map(lambda *parts: sum(parts) / CHUNKS, *statistics)
        return nt_xent(z, batch.groups, config.method.temperature, mesh=mesh)[0], mean

    (value, statistics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params)
    return gradient, statistics, float(value)


def assert_same(found, expected):
    """Leaf by leaf; differences small beside the whole gradient."""
    total = optax.tree.norm(expected[0])
    assert total > 0.1
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(found[0]), jax.tree.leaves(expected[0])
    ):
        assert np.linalg.norm(a - b) <= 2e-4 * max(np.linalg.norm(b), 0.05 * total), path
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), found[1], expected[1]
    )
    assert found[2] == pytest.approx(expected[2], rel=1e-5)


def test_the_gradient_is_that_of_the_whole_batch_under_statistics_of_parts():
    config = config_of(chunks=CHUNKS)
    expected = in_parts_without_a_cache(config, devices=4)
    assert_same(taken(config, devices=4), expected)
    other = in_parts_without_a_cache(config, devices=1)  # other parts, another loss
    assert abs(other[2] - expected[2]) > 1e-4


def test_with_frozen_statistics_it_is_the_gradient_of_the_whole_batch():
    frozen = {'model.batch_norm': 'frozen'}
    whole, parts = (taken(config_of(chunks=n, **frozen), 2) for n in (1, 4))
    assert_same(parts, whole)
    _, state, _ = made(config_of(**frozen), 1)
    jax.tree.map(np.testing.assert_array_equal, parts[1], mesh_lib.fetch(state.batch_stats))


def compiled(devices=4, **settings):
    step, state, batch = made(config_of(**settings), devices)
    return step.lower(state, batch).compile()


def test_memory_is_that_of_a_part():
    sizes = [compiled(1, chunks=chunks).memory_analysis().temp_size_in_bytes for chunks in (1, 4)]
    assert sizes[1] < sizes[0] / 2


def test_still_one_gather_and_no_examples_move():
    text = compiled(chunks=CHUNKS).as_text()
    assert text.count(' all-gather(') == 1
    assert ' all-to-all(' not in text and ' collective-permute(' not in text


def test_a_batch_that_does_not_divide_into_chunks():
    mesh = mesh_lib.make_mesh()
    with pytest.raises(InputError, match='batch_size=16 .* 8 devices in chunks=3; .* of 24'):
        build.make_step(method_of(config_of(chunks=3), mesh), OPTIMIZER, lambda _: 1.0)
