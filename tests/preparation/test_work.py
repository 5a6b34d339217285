import concurrent.futures.process

import pytest

from big_ssl.preparation import work


def test_a_stop_that_comes_while_the_pool_begins(monkeypatch):
    """It is raised as it is: the thread of the pool has not begun, and cannot be waited for."""

    def stopped(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.process._ExecutorManagerThread, 'start', stopped)
    with pytest.raises(KeyboardInterrupt), work._pool(1) as pool:
        pool.submit(int)
