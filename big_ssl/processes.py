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

from big_ssl import lease
from big_ssl.errors import InputError
from big_ssl.files import is_remote

log = logging.getLogger(__name__)

_IMPORTED = time.monotonic()


def die_with_parent() -> None:
    """Makes this process end when its parent does, however that ends (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def seconds_since_start() -> float:
    """Of this process; where that is not known (not Linux), since this file was imported."""
    try:
        begun = int(Path('/proc/self/stat').read_text().rpartition(')')[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - begun / os.sysconf('SC_CLK_TCK')
    except (OSError, AttributeError):
        return time.monotonic() - _IMPORTED


def usable_cores() -> int:
    """Cores that this process may use, where that is known those of its Slurm step or container."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def alone(path: epath.PathLike, message: str, patience: float = 0.0) -> Iterator[None]:
    """Holds a lock on a file or folder, which a dead process does not leave behind.

    In a bucket that is a lease (see `lease.lease`) on the object `path/in_use`; a local file system
    that knows no locks is not locked.

    Args:
      path: a folder, or a file that is made if it is not there.
      message: of the error.
      patience: seconds to wait for another process to go.

    Raises:
      InputError: another process holds it.
    """
    if is_remote(path):
        with lease.lease(epath.Path(path) / 'in_use', message):
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
