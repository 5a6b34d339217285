import asyncio
import contextlib
import dataclasses
import errno
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from orbax.checkpoint._src.serialization import jax_array_handlers

from big_ssl.errors import Diverged, InputError, Preempted
from big_ssl.train import loop
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter, read_metrics

PLAN = loop.Plan(total=12, log_every=5, monitor_every=4, checkpoint_every=3, images_per_step=16)


def fresh() -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params={'sum': jnp.zeros(())},
        batch_stats={},
        opt_state=(),
    )


@jax.jit
def step_fn(state: TrainState, batch: dict):
    """The parameter is the sum of the batches seen; the loss is that of the batch."""
    new = state.replace(step=state.step + 1, params={'sum': state.params['sum'] + batch['adds']})
    return new, {'loss': batch['loss'], 'rate': jnp.float32(0.5)}


class Run:
    """A run of `fit` on a toy: batch `s` adds 10**s % 7 to the state, and calls are recorded."""

    def __init__(self, folder, *, losses=None, adds=None, scores=None, stop_at=None, keep=100):
        self.folder, self.keep = epath.Path(folder), keep
        self.losses, self.adds, self.scores = losses or {}, adds or {}, scores or {}
        self.stop_at = stop_at
        self.stepped: list[int] = []
        self.asked = 0
        self.monitored: list[int] = []
        self.checkpoints = Checkpoints(self.folder, keep=keep)

    def batches(self, steps: range):
        for step in steps:
            self.stepped.append(step)
            yield {
                'adds': np.float32(self.adds.get(step, 10**step % 7)),
                'loss': np.float32(self.losses.get(step, step)),
            }

    def monitor(self, state: TrainState) -> dict[str, float]:
        self.monitored.append(int(state.step))
        scores = {'auc': self.scores[int(state.step)]} if int(state.step) in self.scores else {}
        return {'seen': float(state.params['sum'])} | scores

    def should_stop(self) -> bool:
        self.asked += 1
        return self.stop_at is not None and self.asked == self.stop_at

    def fit(self, plan: loop.Plan = PLAN) -> TrainState:
        latest = self.checkpoints.latest()
        state = fresh() if latest is None else self.checkpoints.restore(latest, fresh())
        return loop.fit(
            state,
            step_fn,
            self.batches,
            plan,
            checkpoints=self.checkpoints,
            about={},
            writer=MetricsWriter(self.folder, int(state.step)),
            monitor=self.monitor,
            score='auc' if self.scores else None,
            should_stop=self.should_stop,
            what='training',
        )

    @property
    def saved(self) -> list[int]:
        return sorted(int(path.name) for path in self.checkpoints.folder.iterdir())

    @property
    def written(self) -> list[tuple[int, str]]:
        return [(line['step'], line['split']) for line in read_metrics(self.folder)]

    def sum_at(self, step: int) -> float:
        return float(self.checkpoints.restore(step, fresh()).params['sum'])


def expected_sum(steps: int) -> float:
    return sum(10**step % 7 for step in range(steps))


def test_everything_happens_at_the_steps_of_the_plan(tmp_path):
    run = Run(tmp_path)
    state = run.fit()
    assert int(state.step) == 12
    assert float(state.params['sum']) == expected_sum(12)
    assert run.stepped == list(range(12))
    assert run.asked == 12
    assert run.monitored == [0, 4, 8, 12]
    assert run.saved == [3, 6, 9, 12]
    assert run.written == [
        (0, 'val'),
        (4, 'val'),
        (5, 'train'),
        (8, 'val'),
        (10, 'train'),
        (12, 'train'),
        (12, 'val'),
    ]
    for step in run.saved:
        assert run.sum_at(step) == expected_sum(step)
    lines = {line['step']: line for line in read_metrics(run.folder) if line['split'] == 'train'}
    assert {step: line['loss'] for step, line in lines.items()} == {5: 4.0, 10: 9.0, 12: 11.0}
    assert all(line['rate'] == 0.5 and line['images_per_second'] > 0 for line in lines.values())


def test_the_last_step_is_logged_monitored_and_saved_whatever_the_plan(tmp_path):
    run = Run(tmp_path)
    run.fit(loop.Plan(3, log_every=50, monitor_every=50, checkpoint_every=50, images_per_step=1))
    assert run.saved == [3]
    assert run.written == [(0, 'val'), (3, 'train'), (3, 'val')]


def test_a_finished_run_does_nothing_more(tmp_path):
    Run(tmp_path).fit()
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    again = Run(tmp_path)
    assert float(again.fit().params['sum']) == expected_sum(12)
    assert (again.stepped, again.monitored, again.asked) == ([], [], 0)
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('bad', range(1, 13))
def test_divergence_names_its_step_and_saves_nothing_after_it(tmp_path, bad, value):
    """Wherever the step lies between logging, monitoring and saving; later losses are fine."""
    run = Run(tmp_path, losses={bad - 1: value})
    with pytest.raises(Diverged, match=f'loss of step {bad} is {value}'.replace('+', r'\+')):
        run.fit()
    assert all(step < bad for step in run.saved)
    assert run.saved == [step for step in (3, 6, 9, 12) if step < bad]
    assert all(step < bad for step, _ in run.written)
    assert len(run.stepped) <= -(-bad // 3) * 3


def test_the_first_of_several_bad_losses_is_named(tmp_path):
    run = Run(tmp_path, losses={6: np.inf, 7: np.nan})
    with pytest.raises(Diverged, match='loss of step 7 is inf'):
        run.fit()


@pytest.mark.parametrize('bad', [2, 3, 4, 12])
def test_parameters_that_are_not_finite_are_neither_saved_nor_monitored(tmp_path, bad):
    """The loss of a step is that of the parameters before it: at a save it may still be fine."""
    run = Run(tmp_path, adds={bad - 1: np.inf})
    with pytest.raises(Diverged, match='not finite'):
        run.fit()
    assert run.saved == [step for step in (3, 6, 9, 12) if step < bad]
    assert all(step < bad for step in run.monitored)


def test_divergence_right_after_a_resume(tmp_path):
    with pytest.raises(Preempted):
        Run(tmp_path, stop_at=7).fit()
    run = Run(tmp_path, losses={8: np.nan})
    with pytest.raises(Diverged, match='loss of step 9 is nan'):
        run.fit()
    assert run.saved == [3, 6, 7]


@pytest.mark.parametrize('stop', range(1, 12))
def test_a_stop_saves_at_its_step_and_the_rest_goes_on_from_there(tmp_path, stop):
    first = Run(tmp_path, stop_at=stop)
    with pytest.raises(Preempted, match=f'stopped at step {stop} of 12, saved'):
        first.fit()
    assert first.stepped == list(range(stop))
    assert max(first.saved) == stop
    assert first.sum_at(stop) == expected_sum(stop)
    second = Run(tmp_path)
    assert float(second.fit().params['sum']) == expected_sum(12)
    assert second.stepped == list(range(stop, 12))
    assert sorted(set(first.written + second.written)) == second.written
    assert second.written == [
        (0, 'val'),
        (4, 'val'),
        (5, 'train'),
        (8, 'val'),
        (10, 'train'),
        (12, 'train'),
        (12, 'val'),
    ]


def test_a_stop_at_the_last_step_is_no_stop(tmp_path):
    run = Run(tmp_path, stop_at=12)
    assert int(run.fit().step) == 12
    assert 12 in run.saved


def test_an_error_in_a_batch_goes_through_and_the_run_resumes(tmp_path):
    class Broken(Run):
        def batches(self, steps):
            for step, batch in zip(steps, super().batches(steps)):
                if step == 7:
                    raise OSError('no such file')
                yield batch

    with pytest.raises(OSError, match='no such file'):
        Broken(tmp_path).fit()
    run = Run(tmp_path)
    assert float(run.fit().params['sum']) == expected_sum(12)
    assert run.stepped == list(range(6, 12))
    assert len(run.written) == len(set(run.written)) == 7


@pytest.mark.parametrize('end', [Preempted, Diverged, OSError, None])
def test_however_it_ends_what_was_begun_is_saved(tmp_path, monkeypatch, end):
    """Writing takes longer than all steps."""
    write = jax_array_handlers._async_serialize_replica_slices

    async def slowly(*args, **kwargs):
        await asyncio.sleep(0.3)
        return await write(*args, **kwargs)

    monkeypatch.setattr(jax_array_handlers, '_async_serialize_replica_slices', slowly)
    run = Run(
        tmp_path,
        losses={4: np.nan} if end is Diverged else {},
        stop_at=3 if end is Preempted else None,
    )
    batches = run.batches

    def broken(steps):
        for step, batch in zip(steps, batches(steps)):
            if step == 3 and end is OSError:
                raise OSError('no such file')
            yield batch

    run.batches = broken
    with contextlib.nullcontext() if end is None else pytest.raises(end):
        run.fit()
    assert run.saved == ([3] if end else [3, 6, 9, 12])
    assert run.sum_at(run.saved[-1]) == expected_sum(run.saved[-1])


def test_a_disk_that_is_full_while_steps_go_on(tmp_path, monkeypatch):
    """Told at the next save; the steps between are not waited for."""

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)
    run = Run(tmp_path)
    monkeypatch.setattr(jax_array_handlers, '_async_serialize_replica_slices', full)
    with pytest.raises(InputError, match='checkpoints/3: cannot be saved: No space left'):
        run.fit()
    assert run.stepped == list(range(6))


def test_the_score_picks_the_best(tmp_path):
    """Every monitored step is saved, for each may be the best."""
    scores = {0: 0.99, 4: 0.7, 8: 0.9, 12: 0.8}
    run = Run(tmp_path, scores=scores, keep=1)
    run.fit()
    assert run.saved == [8, 12]
    assert run.checkpoints.best() == 8
    assert run.sum_at(8) == expected_sum(8)


@pytest.mark.parametrize('stop', [5, 8, 9])
def test_the_best_survives_a_stop(tmp_path, stop):
    scores = {0: 0.1, 4: 0.9, 8: 0.7, 12: 0.8}
    with pytest.raises(Preempted):
        Run(tmp_path, scores=scores, keep=1, stop_at=stop).fit()
    run = Run(tmp_path, scores=scores, keep=1)
    run.fit()
    assert run.checkpoints.best() == 4
    assert run.saved == [4, 12]


def test_without_the_figure_nothing_is_best(tmp_path):
    run = Run(tmp_path, scores={4: 0.5})
    run.fit()
    assert run.checkpoints.best() == 4
    assert run.saved == [3, 4, 6, 9, 12]


def test_a_hung_step_is_told(tmp_path, caplog, capfd):
    run = Run(tmp_path)
    batches = run.batches

    def hanging(steps):
        for batch in batches(steps):
            while run.stepped[-1] == 8 and 'nothing has happened' not in caplog.text:
                time.sleep(0.02)
            yield batch

    run.batches = hanging
    state = run.fit(dataclasses.replace(PLAN, watchdog_seconds=0.3))
    assert int(state.step) == 12
    assert 'since training was judged at step 8' in caplog.text
    assert 'in hanging' in capfd.readouterr().err


def test_step_time_and_waiting(tmp_path, monkeypatch):
    """A clock that moves by 2 s while a batch is waited for, 1 s in a step, 50 s in a monitor."""
    now = [100.0]
    monkeypatch.setattr(loop.time, 'monotonic', lambda: now[0])

    class Slow(Run):
        def batches(self, steps):
            for step, batch in zip(steps, super().batches(steps)):
                now[0] += 2 if step else 1000  # the first one opens the data
                yield batch

        def monitor(self, state):
            now[0] += 50
            return super().monitor(state)

        def should_stop(self):
            now[0] += 1
            return super().should_stop()

    run = Slow(tmp_path)
    run.fit()
    lines = {line['step']: line for line in read_metrics(run.folder) if line['split'] == 'train'}
    for step in (5, 10, 12):
        assert lines[step]['step_seconds'] == pytest.approx(3)
        assert lines[step]['input_wait_seconds'] == pytest.approx(2)
        assert lines[step]['images_per_second'] == pytest.approx(16 / 3)


def test_a_profile_of_some_steps(tmp_path):
    """TensorBoard's profile plug-in reads plugins/profile/TIME/HOST.xplane.pb."""
    Run(tmp_path).fit(dataclasses.replace(PLAN, profile_steps=3))
    (trace,) = tmp_path.glob('plugins/profile/*/*.xplane.pb')
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    names = [event.name for plane in planes for line in plane.lines for event in line.events]
    assert names.count('PjitFunction(step_fn)') == 2 * 3  # JAX notes each call twice
    Run(tmp_path / 'other').fit()
    assert not (tmp_path / 'other/plugins').exists()


def test_a_run_that_ends_within_its_profile(tmp_path):
    Run(tmp_path).fit(dataclasses.replace(PLAN, profile_steps=100))
    assert len(list(tmp_path.glob('plugins/profile/*/*.xplane.pb'))) == 1
