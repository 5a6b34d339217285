import threading
import time

import pytest

from big_ssl.train.watchdog import Watchdog

LIMIT, PATIENCE = 0.2, 60


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


def hang_until_told(caplog, times):
    wait_for(lambda: len(caplog.records) >= times)


def test_a_hang_is_told_with_all_stacks(caplog, capfd):
    stuck = threading.Event()
    other = threading.Thread(target=stuck.wait, name='reader')
    other.start()
    watchdog = Watchdog(LIMIT)
    watchdog.alive('step 7 began')
    hang_until_told(caplog, 2)  # again while it lasts
    watchdog.close()
    stuck.set()
    other.join()
    first = caplog.records[0].getMessage()
    assert first.startswith('process 0: nothing has happened for 0 s, since step 7 began')
    err = capfd.readouterr().err
    assert 'hang_until_told' in err and err.count('Thread 0x') + err.count('Current thread') >= 3


def test_signs_of_life_keep_it_quiet(caplog):
    watchdog = Watchdog(5.0)
    for step in range(20):
        watchdog.alive(f'step {step} began')
        time.sleep(0.01)
    watchdog.close()
    assert not caplog.records


@pytest.mark.parametrize('seconds', [0, 0.01])
def test_off_or_closed_it_says_nothing(caplog, seconds):
    watchdog = Watchdog(seconds)
    watchdog.close()
    wait_for(lambda: not [t for t in threading.enumerate() if t.name == 'watchdog'])
    caplog.clear()
    time.sleep(0.1)
    assert not caplog.records
