import logging

import pytest

from big_ssl.train.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    return now


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records]


def go(progress, clock, steps, seconds):
    for step in steps:
        progress.trained(step, {'loss': 1.25, 'update_norm': 3.0})
        clock[0] += seconds


def test_a_log_tells_steps_a_second_and_the_time_left(caplog, clock):
    """The first step compiles; the second line is of 10 steps of 4 s, and 80 are left."""
    caplog.set_level(logging.INFO, 'big_ssl')
    progress = Progress(total=100, first=0, every=10, what='training')
    go(progress, clock, [1], 1000)
    go(progress, clock, range(2, 26), 4)
    progress.say('a quarter')
    progress.close()
    first, second, third = lines_of(caplog)
    assert first.startswith('training step 10 ')
    expected = 'training step 20  0.2 steps/s, 20.0% (20/100), ETA: 5m  loss 1.25'
    assert second == expected
    assert third == 'a quarter'


def test_the_last_step_has_a_line(caplog, clock):
    caplog.set_level(logging.INFO, 'big_ssl')
    go(Progress(total=7, first=0, every=5, what='training'), clock, range(1, 8), 1)
    assert [line.split()[2] for line in lines_of(caplog)] == ['5', '7']


def test_a_resumed_run_counts_its_own_steps(caplog, clock):
    caplog.set_level(logging.INFO, 'big_ssl')
    go(Progress(total=100, first=89, every=10, what='training'), clock, range(90, 101), 30)
    (line,) = lines_of(caplog)
    assert 'step 100  0.0 steps/s, 100.0% (100/100), ETA: 0m' in line


@pytest.mark.parametrize('terminal', [True, False])
def test_no_steps(monkeypatch, terminal):
    monkeypatch.setattr('sys.stderr.isatty', lambda: terminal)
    for total, first in ((0, 0), (5, 5)):
        progress = Progress(total, first, 1, 'training')
        progress.say('nothing to do')
        progress.close()


def test_on_a_terminal_a_bar_ends_at_the_total(monkeypatch, capsys, caplog):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    caplog.set_level(logging.INFO, 'big_ssl')
    progress = Progress(total=4, first=2, every=1, what='training')
    for step in (3, 4):
        progress.trained(step, {'loss': 2.0})
    progress.close()
    shown = capsys.readouterr().err
    assert 'training: 100%' in shown and '4/4' in shown and 'loss 2' in shown
    assert lines_of(caplog) == []
