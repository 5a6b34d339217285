import os
import signal

import pytest

from big_ssl.train import distributed


@pytest.mark.parametrize('reached', [1, 3, 6])
def test_a_stop_request_stays(monkeypatch, reached):
    """JAX says so at one call only: a stop at the last step must still stop the evaluation."""
    asked = []

    def sync_point(call: int) -> bool:
        asked.append(call)
        return call == reached

    monkeypatch.setattr(distributed.multihost_utils, 'reached_preemption_sync_point', sync_point)
    should_stop = distributed.StopRequest()
    assert [should_stop() for _ in range(6)] == [call >= reached for call in range(1, 7)]
    assert asked == [1, 2, 3, 4, 5, 6]


def test_started_already_it_changes_nothing(monkeypatch):
    monkeypatch.setattr(distributed.jax.distributed, 'is_initialized', lambda: True)
    before = signal.getsignal(signal.SIGINT), dict(os.environ)
    distributed.start()
    assert (signal.getsignal(signal.SIGINT), dict(os.environ)) == before


def test_a_workstation_that_sleeps_keeps_its_run(monkeypatch):
    """By default JAX ends a process that was suspended for minutes; nobody waits for this one."""
    calls = []

    def initialize(*_: object, **settings: object) -> None:
        calls.append(settings)
        if len(calls) == 1:
            raise ValueError('coordinator_address should be defined.')

    monkeypatch.setattr(distributed.jax.distributed, 'is_initialized', lambda: False)
    monkeypatch.setattr(distributed.jax.distributed, 'initialize', initialize)
    monkeypatch.setattr(distributed.jax.config, 'update', lambda *_: None)
    monkeypatch.setattr(distributed.signal, 'signal', lambda *_: None)
    distributed.start()
    days = 24 * 60 * 60
    assert calls[0]['heartbeat_timeout_seconds'] <= 30  # where others do wait
    assert calls[1]['heartbeat_timeout_seconds'] > 365 * days
