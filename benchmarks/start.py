"""From the start of the process to the first training step, each second accounted for.

  python -m benchmarks.start FILE.json FLAGS…      # one run of big_ssl.main, watched

A run as users start it, on drawn images: once with nothing compiled before, then with what that
left. It is watched by timers around the functions that `tasks.training.run` calls one after the
other; what runs beside them in threads is said apart.
"""

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import Found, Summary
from benchmarks.timing import summary
from big_ssl import heap, processes

_ROOT = Path(__file__).parent.parent
_IMPORTS = 'interpreter_and_imports'
_REST = 'between_these'
_BESIDE = 'beside'
_PACKAGES = 8  # that take longest, of the imports
_IMPORTED = 'import big_ssl.main, big_ssl.tasks.training'
_IMPORT_TIME = re.compile(r'import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)')


def measured(quick: bool) -> Found:
    """Seconds of each part of a start."""
    from benchmarks.photographs import write_photographs

    count, repeats = (48, 1) if quick else (2000, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_photographs(folder / 'images', count, 128, 128, val=count // 10)
        cold = _watched(folder, 'cold', table, quick)
        warm = [_watched(folder, f'warm{number}', table, quick) for number in range(repeats)]
        packages = _import_seconds()
    figures: dict[str, Summary] = {}
    for run, found in (('cold', [cold]), ('warm', warm)):
        figures[f'{run}/first_step/wall_s'] = summary([each['first_step_done'] for each in found])
        for part in found[0]['parts']:
            seconds = [each['parts'].get(part, 0.0) for each in found]
            figures[f'{run}/{part}/wall_s'] = summary(seconds)
    for package, seconds in packages:
        figures[f'imports/{package}/wall_s'] = summary([seconds])
    return Found(
        f'pre-training on {count} images of 128 px, ResNet-18 (0.25x), 96 px',
        figures,
        notes=(
            f'first_step: from the start of the process; the lines below it add up to it, '
            f'{_BESIDE}/… aside, which threads do meanwhile',
            'first_training_step: it waits for the compiled program, and computes',
            f'imports: the {_PACKAGES} packages that take longest, each without what it imports of '
            'others (python -X importtime, which is slower)',
        ),
    )


def account(spans: list[tuple[str, float, float]], end: float) -> dict[str, float]:
    """Seconds of each name up to `end`, without those of spans within; what is left is `_REST`.

    Args:
      spans: name, start and end; nested or one after the other.
      end: of the whole, which starts at 0.
    """
    own: Counter[str] = Counter()
    for name, start, stop in spans:
        within = [
            each
            for each in spans
            if start <= each[1] and each[2] <= stop and each != (name, start, stop)
        ]
        own[name] += stop - start - _covered(within)
    own[_REST] = end - _covered(spans)
    return dict(own)


def _covered(spans: list[tuple[str, float, float]]) -> float:
    """Length of the union."""
    total, reached = 0.0, 0.0
    for _, start, stop in sorted(spans, key=lambda each: each[1]):
        total += max(stop - max(start, reached), 0.0)
        reached = max(reached, stop)
    return total


def _watched(folder: Path, name: str, table: Path, quick: bool) -> Mapping[str, Any]:
    """One run in a fresh process; all runs share what is compiled."""
    result = folder / f'{name}.json'
    flags = {
        'workdir': folder / name,
        'config.dataset.manifest': table,
        'config.model.depth': 18,
        'config.model.width': 0.25,
        'config.image_size': 96,
        'config.batch_size': 8 if quick else 64,
        'config.total_steps': 3,
        'config.warmup_steps': 0,
        'config.checkpoint_every_steps': 3,
        'config.monitor_every_steps': 3,
    }
    command = [sys.executable, '-m', __name__, str(result), '--config=configs/derm_simclr.py']
    command += [f'--{key}={value}' for key, value in flags.items()]
    environment = {**os.environ, 'BIG_SSL_CACHE': str(folder / 'cache')}
    environment.pop('JAX_COMPILATION_CACHE_DIR', None)
    ended = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f'exit code {ended.returncode}: {ended.stderr}')
    return json.loads(result.read_text())


def _import_seconds() -> list[tuple[str, float]]:
    """Of the top packages' own modules, the longest first."""
    command = [sys.executable, '-X', 'importtime', '-c', _IMPORTED]
    lines = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stderr
    own: Counter[str] = Counter()
    for microseconds, module in _IMPORT_TIME.findall(lines):
        own[module.partition('.')[0].lstrip('_')] += int(microseconds) / 1e6
    return own.most_common(_PACKAGES)


class _Timers:
    """Spans of watched functions, in seconds since the process started."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, float, float]] = []
        self.beside: list[tuple[str, float, float]] = []

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        main = threading.current_thread() is threading.main_thread()
        start = processes.seconds_since_start()
        yield
        (self.spans if main else self.beside).append((name, start, processes.seconds_since_start()))

    def watch(self, owner: Any, function: str, name: str) -> None:
        """Replaces a function by itself with a timer around it."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.span(name):
                return original(*arguments, **named)

        setattr(owner, function, timed)

    def watch_background(self, owner: Any, function: str, name: str, beside: str) -> None:
        """Likewise `compilation.in_background`: waiting is timed, and the thread's work beside."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def timed(work: Callable[[], Any]) -> Callable[[], Any]:
            def in_thread() -> Any:
                with self.span(beside):
                    return work()

            result = original(in_thread)

            def waited() -> Any:
                with self.span(name):
                    return result()

            return waited

        setattr(owner, function, timed)


def _watch_run(timers: _Timers) -> None:
    """Timers around what a pre-training does one after the other up to its first step."""
    from big_ssl.data import datasets, training
    from big_ssl.tasks import build, monitor, pretraining
    from big_ssl.tasks import training as run
    from big_ssl.train import compilation, distributed
    from big_ssl.train import workdir as workdir_lib

    timers.watch(distributed, 'start', 'distributed_start')
    timers.watch(workdir_lib, 'claim', 'workdir')
    timers.watch(workdir_lib, 'begin', 'workdir')
    timers.watch(datasets, 'open_manifest', 'table')
    timers.watch(monitor, 'bank_and_query', 'table')
    timers.watch(training, 'make_units', 'table')
    timers.watch(datasets, 'open_images', 'headers')
    timers.watch(build, 'start', 'state')
    timers.watch(pretraining.Observer, 'begin', 'pairs_picture')
    timers.watch(run, 'MetricsWriter', 'metrics_writer')
    timers.watch_background(run, 'in_background', 'first_batch', 'first_batch')
    timers.watch_background(compilation, 'in_background', 'waiting_for_program', 'compile_or_load')


def _watch_monitor(timers: _Timers) -> None:
    """Timers around each of the monitor's turns."""
    from big_ssl.tasks import monitor

    make = monitor.make_monitor

    @functools.wraps(make)
    def made(*arguments: Any) -> Callable[[Any], Any]:
        judge = make(*arguments)

        def judged(state: Any) -> Any:
            with timers.span('figures_of_step_0'):
                return judge(state)

        return judged

    monitor.make_monitor = made


def _watch_steps() -> list[float]:
    """The list that will have the seconds from the start to the end of each step."""
    from big_ssl.train import loop

    ends: list[float] = []
    show = loop._Journal.show

    def shown(journal: Any, step: int, due: Any) -> None:
        ends.append(processes.seconds_since_start())
        show(journal, step, due)

    loop._Journal.show = shown
    return ends


def _run(result: str, flags: list[str]) -> int:
    """Runs big_ssl.main, and writes what its start took."""
    timers = _Timers()
    from big_ssl import main
    from big_ssl.tasks import training  # noqa: F401  with all that it imports

    timers.spans.append((_IMPORTS, 0.0, processes.seconds_since_start()))
    _watch_run(timers)
    _watch_monitor(timers)
    ends = _watch_steps()
    if code := main.main(['big_ssl.main', *flags]):
        return code
    end = ends[0]
    spans = [each for each in timers.spans if each[2] <= end]
    last = max(stop for _, _, stop in spans)
    spans.append(('first_training_step', last, end))
    parts = account(spans, end)
    parts |= {f'{_BESIDE}/{name}': stop - start for name, start, stop in timers.beside
              if start < end}  # fmt: skip
    Path(result).write_text(json.dumps({'first_step_done': end, 'parts': parts}))
    return 0


if __name__ == '__main__':
    heap.use_large_pages()
    sys.exit(_run(sys.argv[1], sys.argv[2:]))
