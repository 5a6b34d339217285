"""What a step says about itself, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from big_ssl import config as config_lib
from big_ssl.tasks import build
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.optimizer import make_optimizer
from big_ssl.train.state import SHARDINGS, TrainState, layout

DECAY, RATE = 0.01, optax.constant_schedule(0.5)


def state_of(optimizer, mesh, shard):
    rng = np.random.default_rng(0)
    params = {
        'encoder': {
            'conv': {'kernel': rng.normal(size=(8, 5))},
            'bn': {'scale': rng.normal(size=16)},
        },
        'projection': {'dense': {'kernel': rng.normal(size=(5, 8)) / 50}},
        'classifier': {'dense': {'kernel': rng.normal(size=(3, 2)), 'bias': rng.normal(size=2)}},
    }
    params = jax.tree.map(jnp.float32, params)
    state = TrainState(
        step=jnp.int32(0), params=params, batch_stats={}, opt_state=optimizer.init(params)
    )
    return jax.device_put(state, layout(state, mesh, shard))


def loss_fn(params, state, batch):
    """The gradient of every parameter p is p ** 3."""
    return sum(jnp.sum(x**4) for x in jax.tree.leaves(params)) / 4, ({}, {})


def norm(tree):
    return np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))


def taken(figures, shard='none', devices=1, steps=2):
    """State and metrics before and after the last of some steps of LARS."""
    mesh = mesh_lib.make_mesh(jax.devices()[:devices])
    optimizer = make_optimizer('lars', RATE, weight_decay=DECAY)
    state = state_of(optimizer, mesh, shard)
    step = build.make_update(loss_fn, optimizer, RATE, mesh, shard, figures)
    for _ in range(steps):
        before = jax.tree.map(np.array, mesh_lib.fetch(state))
        state, metrics = step(state, {})
    return before, mesh_lib.fetch(state), mesh_lib.fetch(metrics)


def lars():
    config = config_lib.defaults()
    config.optimizer.name, config.optimizer.weight_decay = 'lars', DECAY
    return build.optimizer_figures(config)


@pytest.mark.parametrize('shard', SHARDINGS)
@pytest.mark.parametrize('devices', [1, 8])
def test_norms_and_trust_ratios(shard, devices):
    before, after, metrics = taken(lars(), shard, devices)
    gradient = jax.tree.map(lambda x: x**3, before.params)
    ratios = []
    for part, layer in (('encoder', 'conv'), ('projection', 'dense')):
        w, g = (tree[part][layer]['kernel'] for tree in (before.params, gradient))
        ratios.append(0.001 * norm(w) / norm(g + DECAY * w))
    expected = {
        'grad_norm': norm(gradient),
        'update_norm': norm(jax.tree.map(np.subtract, after.params, before.params)),
        'param_norm': norm(before.params),
        'trust_ratio_min': min(ratios),
        'trust_ratio_max': max(ratios),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    assert len(set(expected.values())) == 5
    assert metrics.keys() == expected.keys() | {'loss', 'learning_rate'}


def test_they_change_no_bit_of_the_training(monkeypatch):
    _, ours, _ = taken(lars(), devices=8, steps=5)
    monkeypatch.setattr(build.optax.tree, 'norm', lambda tree: jnp.float32(0))
    _, plain, _ = taken(lambda gradients, params: {}, devices=8, steps=5)
    jax.tree.map(np.testing.assert_array_equal, ours, plain)


def test_only_lars_has_trust_ratios():
    config = config_lib.defaults()
    for name in ('sgd', 'adam'):
        config.optimizer.name = name
        assert build.optimizer_figures(config)({}, {}) == {}
