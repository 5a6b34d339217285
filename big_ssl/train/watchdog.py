"""A thread that tells when nothing has happened for too long, and what every thread is doing."""

import faulthandler
import logging
import sys
import threading
import time

import jax

log = logging.getLogger(__name__)


class Watchdog:
    """Warns once for every `seconds` without a sign of life, with the stacks of all threads.

    It stops nothing: what hangs may be a slow disk, or the compiler at work on a large network.

    Args:
      seconds: 0 never warns.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen, self._what = time.monotonic(), 'the start'
        self._end = threading.Event()
        if seconds:
            threading.Thread(target=self._watch, name='watchdog', daemon=True).start()

    def alive(self, what: str) -> None:
        """A sign of life: what has just been done."""
        self._seen, self._what = time.monotonic(), what

    def close(self) -> None:
        self._end.set()

    def _watch(self) -> None:
        told = 0.0
        while not self._end.wait(min(self._seconds / 4, 10)):
            now = time.monotonic()
            if now - max(self._seen, told) < self._seconds:
                continue
            told = now
            log.warning(
                'process %d: nothing has happened for %.0f s, since %s; all threads:',
                jax.process_index(),
                now - self._seen,
                self._what,
            )
            faulthandler.dump_traceback(sys.stderr)
