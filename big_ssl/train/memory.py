"""How much memory a device has."""

import os
from collections.abc import Sequence
from pathlib import Path

import jax

# Version 2 and 1 of Linux's control groups, as containers and batch systems see their own.
_LIMITS = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')


def device_memory(devices: Sequence[jax.Device]) -> int:
    """Bytes of one of these devices; 0 where nobody says.

    CPU devices share what the machine has, or what a control group leaves of it to this process.
    """
    if devices[0].platform == 'cpu':
        return machine_memory() // len(devices)
    return int((devices[0].memory_stats() or {}).get('bytes_limit', 0))


def machine_memory() -> int:
    """Bytes that the processes of this machine, or of this container, may use."""
    physical = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    return min([physical, *filter(None, map(_limit, _LIMITS))])


def _limit(file: str) -> int | None:
    try:
        text = Path(file).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # 'max'
