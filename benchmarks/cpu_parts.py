"""The parts of the benchmark for CPUs, each of which has a process to itself."""

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.results import Found

PARTS = {
    'host': 'benchmarks.host',
    'photographs': 'benchmarks.large',
    'pipeline': 'benchmarks.pipeline',
    'step': 'benchmarks.step',
    'loss': 'benchmarks.loss',
    'start': 'benchmarks.start',
    'memory': 'benchmarks.memory',
}


def measured(part: str, quick: bool) -> Found:
    """By a fresh process; what goes wrong in it is raised here."""
    fresh = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_measured, part, quick).result()


def _measured(part: str, quick: bool) -> Found:
    return importlib.import_module(PARTS[part]).measured(quick)
