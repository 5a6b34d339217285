import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from big_ssl.errors import InputError
from big_ssl.train.optimizer import adapted, make_optimizer, trust_ratios

STEPS = 5
DECAY = 0.01


def rate(step):
    """Changes from step to step, so that a rate inside the momentum differs from one outside."""
    return 0.5 / (step + 1)


@pytest.fixture
def params():
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return {
        'encoder': {
            'conv1': {'kernel': draw(3, 3, 2, 4)},
            'conv_zero': {'kernel': np.zeros((1, 1, 4, 4), np.float32)},
            'bn1': {'scale': draw(4), 'bias': draw(4)},
        },
        'projection': {'dense1': {'kernel': draw(4, 3), 'bias': draw(3)}},
        'classifier': {'dense': {'kernel': draw(4, 2), 'bias': draw(2)}},
    }


def gradients(params, step):
    rng = np.random.default_rng(step + 1)
    drawn = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    if step == 0:
        drawn['encoder']['conv1']['kernel'][:] = 0
    return drawn


def train(optimizer, params):
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, state = update(gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(rule, params):
    """Applies `rule(path, w, gradients) -> w` to every parameter alone, in float64."""
    history = [gradients(params, step) for step in range(STEPS)]

    def run(path, leaf, *history):
        names = [key.key for key in path]
        return rule(names, leaf.astype(np.float64), [g.astype(np.float64) for g in history])

    return jax.tree.map_with_path(run, params, *history)


def lars(names, w, gradients, decay=DECAY):
    adapts = names[-1] == 'kernel' and names[0] != 'classifier'
    v = np.zeros_like(w)
    for step, g in enumerate(gradients):
        ratio = 1.0
        if adapts:
            g = g + decay * w
            norm_w, norm_g = np.linalg.norm(w), np.linalg.norm(g)
            ratio = 0.001 * norm_w / norm_g if norm_w > 0 and norm_g > 0 else 1.0
        v = 0.9 * v + rate(step) * ratio * g
        w = w - v
    return w


def sgd(names, w, gradients, nesterov=False):
    v = np.zeros_like(w)
    for step, g in enumerate(gradients):
        if names[-1] == 'kernel':
            g = g + DECAY * w
        v = 0.9 * v + g
        w = w - rate(step) * (g + 0.9 * v if nesterov else v)
    return w


def adamw(names, w, gradients):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for step, g in enumerate(gradients):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        unbiased_m, unbiased_v = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
        decay = DECAY * w if names[-1] == 'kernel' else 0
        w = w - rate(step) * (unbiased_m / (np.sqrt(unbiased_v) + 1e-8) + decay)
    return w


def assert_close(params, expected, atol=2e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol), params, expected
    )


def test_lars(params):
    optimizer = make_optimizer('lars', rate, weight_decay=DECAY)
    assert_close(train(optimizer, params), by_hand(lars, params))


def test_lars_with_a_zero_gradient_and_no_decay_is_finite(params):
    optimizer = make_optimizer('lars', rate, weight_decay=0.0)
    expected = by_hand(lambda *arguments: lars(*arguments, decay=0.0), params)
    assert_close(train(optimizer, params), expected)


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd(params, nesterov):
    optimizer = make_optimizer('sgd', rate, weight_decay=DECAY, nesterov=nesterov)
    expected = by_hand(lambda *arguments: sgd(*arguments, nesterov=nesterov), params)
    assert_close(train(optimizer, params), expected)


def test_adam(params):
    optimizer = make_optimizer('adam', rate, weight_decay=DECAY)
    # optax computes 1 - 0.999 in float32, which is 5e-5 off
    assert_close(train(optimizer, params), by_hand(adamw, params), atol=3e-5)


def test_without_momentum_sgd_is_gradient_descent(params):
    optimizer = make_optimizer('sgd', rate, weight_decay=0.0, momentum=0.0)
    total = by_hand(lambda _, w, gs: w - sum(rate(i) * g for i, g in enumerate(gs)), params)
    assert_close(train(optimizer, params), total)


def test_state_is_float32(params):
    for name in ('lars', 'sgd', 'adam'):
        state = make_optimizer(name, rate, weight_decay=DECAY).init(params)
        floating = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert floating and all(x.dtype == jnp.float32 for x in floating)


def test_unknown_name_and_misplaced_nesterov():
    with pytest.raises(InputError, match=r'optimizer\.name .*lars, sgd, adam'):
        make_optimizer('adamax', rate, weight_decay=0.0)
    with pytest.raises(InputError, match=r'optimizer\.nesterov'):
        make_optimizer('lars', rate, weight_decay=0.0, nesterov=True)


def test_trust_ratios_are_those_that_optax_applies(params):
    """Without momentum, at rate 1, an update is -ratio * (gradient + decay * parameter)."""
    optimizer = make_optimizer('lars', lambda _: 1.0, weight_decay=DECAY, momentum=0.0)
    applied = []
    for step in range(STEPS):
        found = jax.jit(trust_ratios)(gradients(params, step), params, DECAY)
        updates, _ = optimizer.update(gradients(params, step), optimizer.init(params), params)
        ratios = [
            -np.asarray(update)[g + DECAY * w != 0] / (g + DECAY * w)[g + DECAY * w != 0]
            for adapts, update, g, w in zip(
                *map(jax.tree.leaves, (adapted(params), updates, gradients(params, step), params))
            )
            if adapts
        ]
        assert all(ratio.std() <= 1e-5 * ratio.mean() for ratio in ratios)
        ratios = [ratio.mean() for ratio in ratios]
        np.testing.assert_allclose(found['trust_ratio_min'], min(ratios), rtol=1e-5)
        np.testing.assert_allclose(found['trust_ratio_max'], max(ratios), rtol=1e-5)
        applied += ratios
    assert len(applied) == 3 * STEPS and 1.0 in np.round(applied, 5) and min(applied) < 0.01


def test_where_nothing_is_adapted_there_are_no_trust_ratios(params):
    only = {'classifier': params['classifier']}
    assert trust_ratios(only, only, DECAY) == {}
