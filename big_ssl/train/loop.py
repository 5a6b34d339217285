"""The training loop: steps, numbers, monitors, checkpoints, and a clean stop."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from big_ssl import processes
from big_ssl.errors import Diverged, Preempted
from big_ssl.train import distributed
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.profile import Profile, device_memory
from big_ssl.train.progress import Progress
from big_ssl.train.state import TrainState
from big_ssl.train.watchdog import Watchdog
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

Batch = Any
Metrics = dict[str, float]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, jax.Array]]]

ADVICE = (
    'the last checkpoint before it is kept; lower --config.optimizer.learning_rate or lengthen '
    'the warm-up'
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """When things happen, all in steps.

    Attributes:
      watchdog_seconds: as in `watchdog.Watchdog`.
      profile_steps: as in `profile.Profile`.
    """

    total: int
    log_every: int
    monitor_every: int
    checkpoint_every: int
    images_per_step: int
    watchdog_seconds: float = 0
    profile_steps: int = 0

    def due(self, step: int) -> 'Due':
        """What happens after `step`; everything after the last."""
        every = (self.log_every, self.monitor_every, self.checkpoint_every)
        return Due(*(step == self.total or step % steps == 0 for steps in every))


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    monitor: bool
    save: bool


def fit(
    state: TrainState,
    step_fn: StepFn,
    batches: Callable[[range], Iterator[Batch]],
    plan: Plan,
    *,
    checkpoints: Checkpoints,
    about: Mapping[str, Any],
    writer: MetricsWriter,
    monitor: Callable[[TrainState], Metrics],
    score: str | None,
    should_stop: Callable[[], bool],
    what: str,
) -> TrainState:
    """Trains from `state.step` to `plan.total` and leaves a checkpoint of the last step.

    Args:
      state: where to start, given up to the first step (its memory is used again).
      step_fn: one step, compiled.
      batches: global batches of a range of steps.
      plan: when to log, monitor and save.
      checkpoints: where to save.
      about: kept beside each checkpoint.
      writer: where numbers go; flushed at the end, whatever it is, and left open.
      monitor: figures of a state on validation.
      score: which of them picks the best checkpoint, if any; then each monitored step is saved.
      should_stop: asked once a step.
      what: name for the progress line.

    Raises:
      Diverged: a loss is not finite; nothing since the last good checkpoint is saved.
      Preempted: asked to stop, and saved.
    """
    first = int(state.step)
    with contextlib.closing(_Journal(plan, first, writer, what)) as journal, _kept(checkpoints):
        if first == 0:
            writer.write(0, 'val', monitor(state))
        coming = journal.timed(batches(range(first, plan.total)))
        for step, batch in zip(range(first + 1, plan.total + 1), coming):
            state, metrics = step_fn(state, batch)
            stop, due = should_stop(), plan.due(step)
            journal.trained(step, metrics, due, stop)
            if due.monitor or due.save or stop:
                _check_state(state)
            journal.show(step, due)
            figures = journal.judged(step, monitor, state) if due.monitor else {}
            best = figures.get(score) if score else None
            if due.save or stop or best is not None:
                writer.flush()  # a run that goes on from here has what came before
                checkpoints.save(state, about, best)
            if stop and step < plan.total:
                raise Preempted(f'stopped at step {step} of {plan.total}, saved')
    return state


@contextlib.contextmanager
def _kept(checkpoints: Checkpoints) -> Iterator[None]:
    """However training ends, the checkpoint that was begun is completed."""
    try:
        yield
    except Exception as error:
        if not distributed.lost_others(error):  # who would be waited for
            checkpoints.wait()
        raise
    checkpoints.wait()


class _Journal:
    """What the steps leave to be read: it waits for their numbers only where they are needed."""

    def __init__(self, plan: Plan, first: int, writer: MetricsWriter, what: str) -> None:
        self._first, self._writer, self._what = first, writer, what
        self._progress = Progress(plan.total, first, plan.log_every, what)
        self._clock = _Clock(plan.images_per_step, first)
        profiled = plan.profile_steps and writer.folder
        self._profile = Profile(plan.profile_steps, first, writer.folder) if profiled else None
        self._watchdog = Watchdog(plan.watchdog_seconds)
        self._losses: list[jax.Array] = []
        self._values: Metrics = {}

    def trained(self, step: int, metrics: Mapping[str, jax.Array], due: Due, stop: bool) -> None:
        """Takes a step's numbers; raises Diverged if a loss since the last look is not finite."""
        self._watchdog.alive(f'step {step} began')
        if self._profile:
            self._profile.trained(step, metrics['loss'])
        self._losses.append(metrics['loss'])
        if any(due) or stop or step == self._first + 1:
            self._values = {name: float(v) for name, v in jax.device_get(metrics).items()}
            _check_losses(self._losses, step)
            self._losses.clear()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, with the time that they are waited for on the clock."""
        self._clock.restart(self._first)
        while True:
            with self._clock.waiting():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def show(self, step: int, due: Due) -> None:
        if due.log:
            self._values |= self._clock.figures(step) | device_memory()
            self._writer.write(step, 'train', self._values)
        self._progress.trained(step, self._values)
        if step == self._first + 1:
            log.info('first step %.1f s after the start', processes.seconds_since_start())
            self._clock.restart(step)  # compiling is not part of the speed

    def judged(
        self, step: int, monitor: Callable[[TrainState], Metrics], state: TrainState
    ) -> Metrics:
        timed = self._progress.timed('monitor', wait_jax_async_dispatch=False)
        with self._clock.stopped(), timed:
            figures = monitor(state)
        self._progress.say(f'{self._what} step {step}: ' + _listed(figures))
        self._writer.write(step, 'val', figures)
        self._watchdog.alive(f'{self._what} was judged at step {step}')
        return figures

    def close(self) -> None:
        self._watchdog.close()
        if self._profile:
            self._profile.close()
        self._progress.close()
        self._writer.flush()


class _Clock:
    """Speed and waiting since the last question, monitoring left out."""

    def __init__(self, images_per_step: int, step: int) -> None:
        self._images_per_step = images_per_step
        self.restart(step)

    def restart(self, step: int) -> None:
        self._time, self._step, self._waited = time.monotonic(), step, 0.0

    def figures(self, step: int) -> Metrics:
        """Of each step since the last question; the wait is that of the host that waited most."""
        steps = max(step - self._step, 1)
        seconds = max(time.monotonic() - self._time, 1e-9) / steps
        waited = self._waited / steps
        self.restart(step)
        return {
            'images_per_second': self._images_per_step / seconds,
            'step_seconds': seconds,
            'input_wait_seconds': distributed.largest(waited),
        }

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._time += time.monotonic() - start

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start


def _check_losses(losses: list[jax.Array], step: int) -> None:
    values = np.array(jax.device_get(losses))
    if not np.isfinite(values).all():
        bad = step - len(values) + 1 + int(np.argmin(np.isfinite(values)))
        raise Diverged(f'the loss of step {bad} is {values[~np.isfinite(values)][0]}; {ADVICE}')


def _check_state(state: TrainState) -> None:
    """The loss of a step is that of the parameters before it: it can be finite once too often."""
    if not _all_finite(state):
        raise Diverged(f'the parameters after step {int(state.step)} are not finite; {ADVICE}')


@jax.jit
def _all_finite(state: TrainState) -> jax.Array:
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(state)]).all()


def _listed(figures: Metrics) -> str:
    return '  '.join(f'{name} {value:.4g}' for name, value in figures.items()) or 'nothing to show'
