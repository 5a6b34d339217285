import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.errors import InputError
from big_ssl.train.schedules import constant, scaled_learning_rate, warmup_cosine


def closed_form(step, peak, warmup, total):
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + np.cos(np.pi * (min(step, total) - warmup) / (total - warmup)))


@pytest.mark.parametrize('warmup', [0, 1, 100])
def test_warmup_cosine_equals_its_closed_form(warmup):
    schedule = jax.jit(warmup_cosine(4.8, warmup, 1000))
    steps = [0, 1, 50, 99, 100, 101, 550, 999, 1000, 1200]
    expected = [closed_form(step, 4.8, warmup, 1000) for step in steps]
    np.testing.assert_allclose([schedule(step) for step in steps], expected, rtol=1e-5, atol=1e-6)


def test_corners():
    schedule = warmup_cosine(0.3, 10, 110)
    np.testing.assert_allclose([schedule(0), schedule(110), schedule(500)], 0, atol=1e-7)
    np.testing.assert_allclose(schedule(10), 0.3, rtol=1e-6)
    np.testing.assert_allclose(schedule(60), 0.15, rtol=1e-6)


def test_steps_beyond_the_integers_of_float32():
    total = 2**26
    schedule = jax.jit(warmup_cosine(1.0, 0, total))
    for step in (2**24 + 1, 2**25 + 3, total - 2**20):
        expected = closed_form(step, 1.0, 0, total)
        np.testing.assert_allclose(schedule(jnp.int32(step)), expected, atol=3e-7)


def test_constant():
    assert constant(0.1)(jnp.int32(12345)) == 0.1


@pytest.mark.parametrize('warmup, total', [(10, 10), (20, 10), (-1, 10), (0, 0)])
def test_a_warmup_longer_than_the_run(warmup, total):
    with pytest.raises(InputError, match=f'warm-up of {warmup} steps'):
        warmup_cosine(0.1, warmup, total)


def test_scaled_learning_rate():
    assert scaled_learning_rate(0.3, 4096, 'linear') == pytest.approx(4.8)
    assert scaled_learning_rate(0.075, 4096, 'sqrt') == pytest.approx(4.8)
    assert scaled_learning_rate(0.1, 128, 'none') == 0.1
    with pytest.raises(InputError, match='linear, sqrt, none'):
        scaled_learning_rate(0.3, 256, 'square')
