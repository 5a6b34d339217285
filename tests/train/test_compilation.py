"""Programs that are kept, and steps that compile in the background."""

import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.errors import InputError
from big_ssl.train import compilation
from big_ssl.train import mesh as mesh_lib


def test_it_compiles_before_it_is_called_and_once():
    traced = []

    @jax.jit
    def step(x, y):
        traced.append(threading.current_thread())
        return x @ y, {'sum': x.sum()}

    mesh = mesh_lib.make_mesh()
    x = mesh_lib.spread(np.arange(64.0).reshape(8, 8), mesh)
    y = mesh_lib.copy(np.ones((8, 3)), mesh)
    call = compilation.ahead(step, x, y)
    for scale in (1.0, 2.0):
        product, metrics = call(x * scale, y)
        np.testing.assert_array_equal(
            product, scale * np.arange(64.0).reshape(8, 8) @ np.ones((8, 3))
        )
        assert float(metrics['sum']) == scale * 2016
    assert len(traced) == 1 and traced[0] is not threading.main_thread()


def test_what_a_step_raises_while_it_is_traced_is_raised_by_its_first_call():
    def step(x):
        raise ValueError('a shape does not fit')

    call = compilation.ahead(jax.jit(step), jnp.zeros(3))
    with pytest.raises(ValueError, match='a shape does not fit'):
        call(jnp.zeros(3))


def test_a_step_that_is_too_large_is_wrong_input():
    def step(x):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory\nallocating 9 GiB')

    call = compilation.ahead(jax.jit(step), jnp.zeros(3))
    with pytest.raises(InputError, match=r'lower --config\.batch_size.*memory allocating 9 GiB$'):
        call(jnp.zeros(3))


def test_what_else_goes_wrong_on_a_device_is_not():
    def step(x):
        raise jax.errors.JaxRuntimeError('INTERNAL: lost')

    call = compilation.ahead(jax.jit(step), jnp.zeros(3))
    with pytest.raises(jax.errors.JaxRuntimeError, match='lost'):
        call(jnp.zeros(3))


def test_in_background():
    go = threading.Event()
    found = compilation.in_background(lambda: go.wait(60) and 'done')
    go.set()
    assert found() == 'done' == found()


@pytest.fixture
def cache_dir():
    """Sets and reads where JAX keeps programs; afterwards it is as before."""
    name = 'jax_compilation_cache_dir'
    before = jax.config.values[name]
    yield lambda *value: jax.config.update(name, *value) if value else jax.config.values[name]
    jax.config.update(name, before)


def test_programs_are_kept_by_processor(tmp_path, monkeypatch, cache_dir):
    monkeypatch.setenv('BIG_SSL_CACHE', str(tmp_path))
    cache_dir(None)
    compilation.keep_compiled()
    here = cache_dir()
    assert here.startswith(f'{tmp_path}/compiled/')
    cache_dir(None)
    monkeypatch.setattr(compilation, '_processor', lambda: 7)
    compilation.keep_compiled()
    assert cache_dir().endswith('-00000007') and cache_dir() != here


def test_a_place_that_is_given_stays(cache_dir):
    cache_dir('/somewhere/else')
    compilation.keep_compiled()
    assert cache_dir() == '/somewhere/else'


def test_options_are_those_of_the_devices():
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    options = compilation.options(mesh)

    @compilation.whole(mesh)
    def convolve(x, kernel):
        layout = ('NHWC', 'HWIO', 'NHWC')
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=layout)

    given = jnp.zeros((8, 16, 16, 64)), jnp.zeros((3, 3, 64, 64))
    assert 'ynn' not in convolve.lower(*given).compile().as_text()
    assert list(options) == ['xla_cpu_experimental_ynn_fusion_type']
    chips = SimpleNamespace(devices=np.array([SimpleNamespace(platform='tpu')]))
    assert compilation.options(chips) == {}


def test_a_compiler_that_does_not_know_the_options_does_without(monkeypatch):
    monkeypatch.setattr(compilation, '_FOR_CPUS', {'xla_cpu_experimental_yarn': ''})
    compilation._accepted.cache_clear()
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    try:
        assert compilation.options(mesh) == {}
        assert compilation.whole(mesh)(lambda x: x + 1)(1) == 2
    finally:
        compilation._accepted.cache_clear()
