"""The training loop: steps, numbers, monitors, checkpoints, and a clean stop."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from big_ssl.errors import Diverged, Preempted
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter, Progress

Batch = Any
Metrics = dict[str, float]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Mapping[str, jax.Array]]]

ADVICE = (
    'the last checkpoint before it is kept; lower --config.optimizer.learning_rate or lengthen '
    'the warm-up'
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """When things happen, all in steps."""

    total: int
    log_every: int
    monitor_every: int
    checkpoint_every: int
    images_per_step: int


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
      writer: where numbers go.
      monitor: figures of a state on validation.
      score: which of them picks the best checkpoint, if any; then each monitored step is saved.
      should_stop: asked once a step.
      what: name for the progress line.

    Raises:
      Diverged: a loss is not finite; nothing since the last good checkpoint is saved.
      Preempted: asked to stop, and saved.
    """
    first = int(state.step)
    progress = Progress(plan.total, first, what)
    losses: list[jax.Array] = []
    last_time, last_step = time.monotonic(), first
    try:
        if first == 0:
            writer.write(0, 'val', monitor(state))
        for step, batch in zip(range(first + 1, plan.total + 1), batches(range(first, plan.total))):
            state, metrics = step_fn(state, batch)
            losses.append(metrics['loss'])
            stop = should_stop()
            last = step == plan.total
            due = [
                last or step % every == 0
                for every in (plan.log_every, plan.monitor_every, plan.checkpoint_every)
            ]
            if any(due) or stop or step == first + 1:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                _check_losses(losses, step)
                losses.clear()
            if due[1] or due[2] or stop:
                _check_state(state)
            if due[0]:
                now = time.monotonic()
                values['images_per_second'] = (
                    plan.images_per_step * (step - last_step) / (now - last_time)
                )
                last_time, last_step = now, step
                writer.write(step, 'train', values)
            if due[0] or step == first + 1:
                progress.update(step, values)
            figures: Metrics = {}
            if due[1]:
                figures = monitor(state)
                progress.say(f'{what} step {step}: ' + _listed(figures))
                writer.write(step, 'val', figures)
                last_time = time.monotonic()
            best = figures.get(score) if score else None
            if due[2] or stop or best is not None:
                checkpoints.save(state, about, best)
            if stop and not last:
                raise Preempted(f'stopped at step {step} of {plan.total}, saved')
    finally:
        progress.close()
        writer.close()
    return state


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
