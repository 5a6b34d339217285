"""Processes that share a folder or a parent."""

import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from big_ssl.errors import InputError

log = logging.getLogger(__name__)


def die_with_parent() -> None:
    """Makes this process end when its parent does, however that ends (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def alone(path: epath.PathLike, message: str, patience: float = 0.0) -> Iterator[None]:
    """Holds a lock on a local file or folder, which goes with the process.

    Remote paths, and file systems that know no locks, are not locked.

    Args:
      path: a folder, or a file that is made if it is not there.
      message: of the error.
      patience: seconds to wait for another process to go.

    Raises:
      InputError: another process holds it.
    """
    if '://' in str(path):
        yield
        return
    how = os.O_RDONLY if Path(path).is_dir() else os.O_RDWR | os.O_CREAT
    handle = os.open(path, how, 0o644)
    try:
        _lock(handle, message, patience)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, message: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InputError(message) from None
            time.sleep(0.2)
        except OSError as error:
            log.info('no lock: %s', error)
            return
