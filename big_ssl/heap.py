"""Memory of this process in large pages.

XLA on a CPU takes the memory of a step from the system and gives it back after each; in pages of 4
KiB that is a tenth or a fifth of a step's time (BUILD_NOTES.md). glibc asks for large ones if an
environment variable says so before the process starts.
"""

import os
import sys

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
