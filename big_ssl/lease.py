"""A lock for folders of a bucket, which knows no locks: an object that its holder keeps writing.

A run that died writes no more; whoever comes next watches the object for a while and takes it over.
Object stores give no promise about two writers of one moment: after writing, a run waits and looks
whose writing stayed.
"""

import contextlib
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator

from etils import epath

from big_ssl.errors import PREEMPTED, InputError

log = logging.getLogger(__name__)

RENEW = 5.0  # seconds between two writings
LAPSE = 40.0  # seconds without one after which the holder counts as dead
SETTLE = 2.0  # seconds after which it is clear whose writing stayed


@contextlib.contextmanager
def lease(path: epath.Path, message: str) -> Iterator[None]:
    """Holds the object at `path`, which is gone afterwards.

    A process that was suspended for longer than LAPSE, so that another took its place, ends with
    exit code 75 when it wakes.

    Args:
      path: of an object that nothing else uses.
      message: of the error.

    Raises:
      InputError: another process holds it.
    """
    holder = f'{socket.gethostname()} process {os.getpid()} {uuid.uuid4().hex}'
    _wait_for_the_dead(path, message)
    path.write_text(holder)
    time.sleep(SETTLE)
    if not _read(path).startswith(holder):
        raise InputError(message)
    end = threading.Event()
    thread = threading.Thread(target=_keep, args=(path, holder, end), daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        if _read(path).startswith(holder):
            path.unlink(missing_ok=True)


def _wait_for_the_dead(path: epath.Path, message: str) -> None:
    seen = _read(path)
    if not seen:
        return
    log.info('%s: held by %s; waiting for a sign of life', path, seen.rpartition(' ')[0])
    deadline = time.monotonic() + LAPSE
    while (now := _read(path)) and time.monotonic() < deadline:
        if now != seen:
            raise InputError(f'{message} ({now.rpartition(" ")[0]})')
        time.sleep(RENEW / 4)


def _keep(path: epath.Path, holder: str, end: threading.Event) -> None:
    count = 0
    while not end.wait(RENEW):
        try:
            if not (found := _read(path)).startswith(holder) and found:
                print(f'{path}: taken by {found} while this process slept', file=sys.stderr)
                sys.stderr.flush()
                os._exit(PREEMPTED)
            count += 1
            path.write_text(f'{holder}.{count}')
        except OSError as error:
            log.warning('%s: cannot be renewed: %s', path, error)


def _read(path: epath.Path) -> str:
    """What the object says, '' where there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ''
