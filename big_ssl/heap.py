"""Memory of this process: in large pages, and not searched for garbage while modules are imported.

XLA on a CPU takes the memory of a step from the system and gives it back after each; in pages of 4
KiB that is a tenth or a fifth of a step's time (BUILD_NOTES.md). glibc asks for large ones if an
environment variable says so before the process starts.

Importing makes a million objects and next to no garbage, and Python walks through all of them again
and again to find some: a third of the seconds that TensorFlow's import takes (BUILD_NOTES.md).
"""

import contextlib
import gc
import os
import sys
from collections.abc import Iterator

_VARIABLE, _LARGE_PAGES = 'GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1'


def use_large_pages() -> None:
    """Starts this program anew, as the same process, with large pages (Linux).

    For the first lines of a program. Whoever sets GLIBC_TUNABLES, to whatever, is left alone.
    """
    if sys.platform == 'linux' and _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = _LARGE_PAGES
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@contextlib.contextmanager
def not_searched() -> Iterator[None]:
    """No search for garbage in here; what is made in here is left out of later searches."""
    searched = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if searched:
            gc.enable()
