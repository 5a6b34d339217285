"""Processes that share a folder or a parent."""

import contextlib
import ctypes
import fcntl
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from big_ssl.errors import InputError


def die_with_parent() -> None:
    """Makes this process end when its parent does, however that ends (Linux)."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def alone(file: epath.PathLike, message: str, patience: float = 0.0) -> Iterator[None]:
    """Holds a lock on a local file, which goes with the process; remote files are not locked.

    Args:
      file: made if it is not there.
      message: of the error.
      patience: seconds to wait for another process to go.

    Raises:
      InputError: another process holds it.
    """
    if '://' in str(file):
        yield
        return
    with Path(file).open('w') as handle:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise InputError(message) from None
                time.sleep(0.2)
        yield
