"""What is measured of big_ssl: one function a part, each of which has a process to itself."""

import platform
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import flax
import jax
import jaxlib

from benchmarks import ceilings as ceilings_lib
from benchmarks import simclr
from benchmarks import trace as trace_lib
from benchmarks.library_calls import bytes_of_library_calls
from benchmarks.settings import Setting, config_of
from benchmarks.timing import timed
from big_ssl.data import feed
from big_ssl.losses.ntxent import nt_xent
from big_ssl.planning.flops import flops_of
from big_ssl.train.compilation import keep_compiled

TRACED_STEPS = 3
_REMATERIALISED = re.compile(r'^\s+%?[\w.\-]+\.remat[\w.]* = ', re.MULTILINE)  # XLA's suffix
Figures = dict[str, Any]


def keep_programs() -> None:
    """Programs are compiled once for all processes, and have the names of today's source."""
    keep_compiled()
    jax.config.update('jax_compilation_cache_include_metadata_in_key', True)


def ceilings(setting: Setting) -> Figures:
    """Of the device, whatever the network."""
    found = ceilings_lib.measured(setting.product, setting.copied, setting.seconds, setting.repeats)
    return {**found, **_about_jax()}


def network(setting: Setting) -> Figures:
    """big_ssl: network, loss and optimiser on ready views."""
    training = simclr.training_of(config_of(setting))
    step = _Step(simclr.ready_step(training), training.state(), simclr.ready_views(training))
    return step.figures(setting)


def step(setting: Setting) -> Figures:
    """big_ssl: the whole step from uint8 views, and each of its parts for itself."""
    training = simclr.training_of(config_of(setting))
    config, batch = training.config, simclr.random_views(training)
    whole = _Step(simclr.whole_step(training), training.state(), batch)
    figures = whole.figures(setting)
    state = whole.state
    z = jax.random.normal(
        jax.random.key(0), (config.batch_size, config.views, config.method.projection_size)
    )

    def loss(z: jax.Array) -> jax.Array:
        return nt_xent(z, batch.groups, config.method.temperature, mesh=training.mesh)[0]

    def update(params: Any, opt_state: Any, grads: Any) -> tuple[Any, Any]:
        updates, opt_state = training.optimizer.update(grads, opt_state, params)
        return jax.tree.map(lambda x, change: x + change, params, updates), opt_state

    augment = jax.jit(lambda batch, step: feed.augmented(config, batch, step))
    backward = jax.jit(jax.value_and_grad(loss))
    updated = jax.jit(update, donate_argnums=(0, 1))
    held = [state.params, state.opt_state]
    grads = jax.tree.map(lambda x: x * 1e-3, state.params)

    def optimise() -> Any:
        held[:] = updated(*held, grads)
        return held

    alone = {
        'augmentation': lambda: augment(batch, state.step),
        'loss': lambda: backward(z),
        'optimiser': optimise,
    }
    for name, function in alone.items():
        print(f'  {name} alone')
        seconds = timed(_repeated(function), setting.seconds / 3, setting.repeats)
        figures[f'{name}_seconds'] = seconds
    return figures


def trace(setting: Setting) -> Figures:
    """Device time of the whole step by kind of work, from the profiler."""
    training = simclr.training_of(config_of(setting))
    step = _Step(simclr.whole_step(training), training.state(), simclr.random_views(training))
    step.run(3)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            start = time.perf_counter()
            step.run(TRACED_STEPS)
            seconds = (time.perf_counter() - start) / TRACED_STEPS
        profile = trace_lib.newest(folder)
    kinds = trace_lib.kinds_of(step.compiled.as_text())
    found = trace_lib.seconds_by_kind(profile, kinds, TRACED_STEPS)
    if found.get(trace_lib.UNKNOWN, 0) >= 0.1 * sum(found.values()):
        raise RuntimeError(f'the profile does not say what ran: {found}')
    return {'traced_step_seconds': seconds, 'kernel_seconds': found, **_about_jax()}


def images(setting: Setting) -> Figures:
    """big_ssl: a loop over batches of images that lie on the device, and its wait for them."""
    config = config_of(setting, dataset__manifest=setting.manifest, dataset__placement='device')
    training = simclr.training_of(config)
    start = time.perf_counter()
    batches = simclr.image_batches(training)(range(10**9))
    first = next(batches)
    loading = time.perf_counter() - start
    step = _Step(simclr.whole_step(training), training.state(), first)
    waits: list[float] = []

    def run(count: int) -> None:
        waiting = 0.0
        for _ in range(count):
            start = time.perf_counter()
            batch = next(batches)
            waiting += time.perf_counter() - start
            step.take(batch)
        step.wait()
        waits.append(waiting / count)

    samples = timed(run, setting.seconds, setting.repeats)
    figures = {'step_seconds': samples, 'input_wait_seconds': waits[-len(samples) :]}
    return figures | {'loading_seconds': loading} | step.about()


class _Step:
    """A training step, compiled, and the state that it goes on from."""

    def __init__(self, step: Any, state: Any, batch: Any) -> None:
        start = time.perf_counter()
        traced = step.trace(state, batch)
        self._flops = flops_of(traced.jaxpr.jaxpr)
        self.compiled = traced.lower().compile()
        self._compiling = time.perf_counter() - start
        print(f'  compiled in {self._compiling:.0f} s')
        self.state, self._batch, self._metrics = state, batch, {}

    def take(self, batch: Any) -> None:
        self.state, self._metrics = self.compiled(self.state, batch)

    def wait(self) -> None:
        jax.block_until_ready((self.state, self._metrics))

    def run(self, count: int) -> None:
        for _ in range(count):
            self.take(self._batch)
        self.wait()

    def figures(self, setting: Setting) -> Figures:
        samples = timed(self.run, setting.seconds, setting.repeats)
        return {'step_seconds': samples} | self.about()

    def about(self) -> Figures:
        """What is known of the program and of its last step."""
        costs, memory = self.compiled.cost_analysis() or {}, self.compiled.memory_analysis()
        program = self.compiled.as_text()
        held = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            - memory.alias_size_in_bytes
            + memory.temp_size_in_bytes
            if memory
            else None
        )
        stats = jax.devices()[0].memory_stats() or {}
        return {
            'compile_seconds': self._compiling,
            'flops': self._flops,
            'bytes': costs.get('bytes accessed', 0) + bytes_of_library_calls(program),
            'rematerialised': len(_REMATERIALISED.findall(program)),
            'program_bytes': held,
            'peak_bytes': stats.get('peak_bytes_in_use'),
            'loss': float(self._metrics['loss']),
            **_about_jax(),
        }


def _repeated(function: Callable[[], Any]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            out = function()
        jax.block_until_ready(out)

    return run


def _about_jax() -> Figures:
    return {
        'device': jax.devices()[0].device_kind,
        'versions': {
            'python': platform.python_version(),
            'jax': jax.__version__,
            'jaxlib': jaxlib.__version__,
            'flax': flax.__version__,
            'jax_platform': jax.devices()[0].client.platform_version,
        },
    }
