import concurrent.futures.process
import signal

import pytest

from big_ssl.preparation import work


def test_a_stop_that_comes_while_the_pool_begins(monkeypatch):
    """It is raised as it is: the thread of the pool has not begun, and cannot be waited for."""

    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.process._ExecutorManagerThread, 'start', stopped)
    with pytest.raises(KeyboardInterrupt), work._pool(1) as pool:
        pool.submit(int)


def test_a_stop_that_comes_while_processes_are_started_is_heard_behind_that():
    """As Python's own Ctrl-C: of the two lines, the second one is where it is raised."""
    passed, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            with work._stops_wait():
                signal.raise_signal(signal.SIGINT)
                passed.append('started')
            passed.append('behind')
        assert passed == ['started']
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
