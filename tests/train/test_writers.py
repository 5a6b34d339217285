import json
import logging

import pytest
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from big_ssl.train.writers import MetricsWriter, Progress, read_metrics


@pytest.fixture
def workdir(tmp_path) -> epath.Path:
    return epath.Path(tmp_path)


def written(workdir: epath.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def events(workdir: epath.Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(workdir)).Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()['scalars']
    }


def fill(workdir: epath.Path, resumed: int, steps: range, value: float, *, close: bool) -> None:
    writer = MetricsWriter(workdir, resumed)
    for step in steps:
        if step:
            writer.write(step, 'train', {'loss': value + step, 'rate': 0.5})
        if step % 2 == 0:
            writer.write(step, 'val', {'auc': value - step})
    if close:
        writer.close()


def test_a_line_and_an_event_for_each_step_and_split(workdir):
    fill(workdir, 0, range(5), 10.0, close=True)
    assert written(workdir) == [
        {'step': 0, 'split': 'val', 'auc': 10.0},
        {'step': 1, 'split': 'train', 'loss': 11.0, 'rate': 0.5},
        {'step': 2, 'split': 'train', 'loss': 12.0, 'rate': 0.5},
        {'step': 2, 'split': 'val', 'auc': 8.0},
        {'step': 3, 'split': 'train', 'loss': 13.0, 'rate': 0.5},
        {'step': 4, 'split': 'train', 'loss': 14.0, 'rate': 0.5},
        {'step': 4, 'split': 'val', 'auc': 6.0},
    ]
    assert events(workdir) == {
        'train/loss': [(1, 11.0), (2, 12.0), (3, 13.0), (4, 14.0)],
        'train/rate': [(step, 0.5) for step in range(1, 5)],
        'val/auc': [(0, 10.0), (2, 8.0), (4, 6.0)],
    }


@pytest.mark.parametrize('close', [True, False], ids=['closed', 'killed'])
def test_a_resumed_run_drops_what_came_after_its_checkpoint(workdir, close):
    fill(workdir, 0, range(5), 10.0, close=close)
    fill(workdir, 2, range(3, 7), 20.0, close=True)
    steps = [(line['step'], line['split']) for line in written(workdir)]
    assert len(steps) == len(set(steps))
    losses = [(line['step'], line['loss']) for line in written(workdir) if 'loss' in line]
    expected = [(1, 11.0), (2, 12.0), (3, 23.0), (4, 24.0), (5, 25.0), (6, 26.0)]
    assert losses == expected
    assert events(workdir)['train/loss'] == expected
    assert events(workdir)['val/auc'] == [(0, 10.0), (2, 8.0), (4, 16.0), (6, 14.0)]


def test_a_run_that_starts_again_drops_everything(workdir):
    """Killed before its first checkpoint, it writes the figures of step 0 a second time."""
    fill(workdir, 0, range(3), 10.0, close=True)
    fill(workdir, 0, range(2), 20.0, close=True)
    assert [(line['step'], line['split']) for line in written(workdir)] == [
        (0, 'val'),
        (1, 'train'),
    ]
    assert events(workdir)['val/auc'] == [(0, 20.0)]


def test_what_is_written_is_on_disk_without_a_close(workdir):
    fill(workdir, 0, range(4), 10.0, close=False)
    assert len(written(workdir)) == 5
    assert events(workdir)['train/loss'] == [(1, 11.0), (2, 12.0), (3, 13.0)]


@pytest.mark.parametrize('rest', ['{"step": 4, "split": "tr', '{', '\0\0\0\0', '{"step": 4}\x00'])
def test_a_line_cut_off_by_a_kill_is_dropped(workdir, rest):
    fill(workdir, 0, range(4), 10.0, close=True)
    before = written(workdir)
    with (workdir / 'metrics.jsonl').open('a') as file:
        file.write(rest)
    assert read_metrics(workdir) == before
    fill(workdir, 3, range(4, 5), 10.0, close=True)
    assert [line['step'] for line in written(workdir)] == [0, 1, 2, 2, 3, 4, 4]


def test_no_metrics_yet(workdir):
    assert read_metrics(workdir) == []


def test_other_processes_write_nothing(workdir, monkeypatch):
    monkeypatch.setattr('jax.process_index', lambda: 1)
    fill(workdir, 0, range(4), 10.0, close=True)
    assert list(workdir.iterdir()) == []


def test_progress_in_a_log_tells_the_time_left(caplog, monkeypatch):
    caplog.set_level(logging.INFO, 'big_ssl')
    clock = iter([100.0, 110.0, 130.0])
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    progress = Progress(total=100, first=0, what='training')
    for step in (1, 11, 31):
        progress.update(step, {'loss': 1.25})
    progress.say('half way')
    progress.close()
    monkeypatch.undo()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert 'training step 11/100  loss 1.25  ETA 01:29' in lines[0]  # 89 steps of a second
    assert 'step 31/100' in lines[1] and 'ETA 01:09' in lines[1]
    assert lines[2] == 'half way'


def test_progress_of_a_resumed_run_counts_its_own_steps(caplog, monkeypatch):
    caplog.set_level(logging.INFO, 'big_ssl')
    clock = iter([0.0, 10.0])
    monkeypatch.setattr('time.monotonic', lambda: next(clock))
    progress = Progress(total=100, first=89, what='training')
    for step in (90, 95):
        progress.update(step, {})
    monkeypatch.undo()
    assert 'ETA 00:10' in caplog.records[0].getMessage()  # 5 steps took 10 s, 5 are left


@pytest.mark.parametrize('terminal', [True, False])
def test_progress_of_no_steps(monkeypatch, terminal):
    monkeypatch.setattr('sys.stderr.isatty', lambda: terminal)
    for total, first in ((0, 0), (5, 5)):
        progress = Progress(total, first, 'training')
        progress.say('nothing to do')
        progress.close()


def test_progress_on_a_terminal_ends_at_the_total(monkeypatch, capsys):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    progress = Progress(total=4, first=2, what='training')
    for step in (3, 4):
        progress.update(step, {'loss': 2.0})
    progress.close()
    shown = capsys.readouterr().err
    assert 'training: 100%' in shown and '4/4' in shown and 'loss 2' in shown
