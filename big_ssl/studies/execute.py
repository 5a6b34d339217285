"""Running what is not done yet, one run after the other, each a process of its own."""

import collections
import contextlib
import json
import logging
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from etils import epath
from tqdm import tqdm

from big_ssl import processes
from big_ssl.command_line import DIVERGED, PREEMPTED, WRONG_INPUT
from big_ssl.command_line import DONE as EXIT_DONE
from big_ssl.errors import InputError, Preempted
from big_ssl.files import is_remote
from big_ssl.studies.run import DONE, HAS_DIVERGED, Run
from big_ssl.train.spool import Spool

log = logging.getLogger(__name__)

LOGS, SECONDS, LOCK = 'logs', 'seconds.json', '.lock'
FAILED = 'failed with exit code'
_PATIENCE = 30  # seconds for the processes of a study that was killed to end
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def execute(runs: Sequence[Run], study: epath.Path) -> int:
    """Does all runs that are not done, and returns how many crashed.

    One that diverges is recorded and those that need it are left out; so is one that crashes.

    Raises:
      InputError: a run says that its input is wrong, or another study is at work in the folder.
      Preempted: asked to stop; what was running has saved.
    """
    busy = f'{study}: another study is at work here'
    with processes.alone(study / LOCK, busy, _PATIENCE), _Stop() as stop:
        states = {run.name: run.state(study) for run in runs}
        progress = _Progress(runs, study, states)
        for run in runs:
            if states[run.name] in (DONE, HAS_DIVERGED):
                continue
            if run.begins_with and states[run.begins_with] != DONE:
                states[run.name] = f'not begun: {run.begins_with} is {states[run.begins_with]}'
                log.warning('%s: %s', run.name, states[run.name])
                continue
            progress.begin(run)
            code = _do(run, study, stop)
            if code == PREEMPTED or stop.asked:
                raise Preempted(f'stopped in run {run.name}')
            if code == WRONG_INPUT:
                raise InputError(f'run {run.name}: {_last_line(run, study)}')
            known = {EXIT_DONE: DONE, DIVERGED: HAS_DIVERGED}
            states[run.name] = known.get(code, f'{FAILED} {code}')
            progress.end(run, states[run.name])
    return sum(state.startswith(FAILED) for state in states.values())


def _do(run: Run, study: epath.Path, stop: '_Stop') -> int:
    """Runs one command, its output shown and kept, and returns its exit code."""
    spool = Spool(study / LOGS)
    path = spool.folder / f'{run.name}.log'
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if not is_remote(study):
        environment.setdefault('JAX_COMPILATION_CACHE_DIR', str(study / '.compiled'))
    with contextlib.closing(spool), path.open('a') as file:
        process = subprocess.Popen(
            [sys.executable, *run.arguments(study)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=processes.die_with_parent if sys.platform == 'linux' else None,
        )
        stop.child = process
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            spool.rest()
            print(f'  {line}', end='', file=sys.stderr, flush=True)
        return process.wait()


def _last_line(run: Run, study: epath.Path) -> str:
    lines = (study / LOGS / f'{run.name}.log').read_text().splitlines()
    return (lines or ['no output'])[-1].removeprefix('error: ')


class _Stop:
    """Passes a request to stop on to the run at work."""

    def __init__(self) -> None:
        self.asked = False
        self.child: subprocess.Popen | None = None

    def __enter__(self) -> '_Stop':
        self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, *_: object) -> None:
        self.asked = True
        if self.child is not None and self.child.poll() is None:
            log.warning('asked to stop: waiting for the run to save')
            self.child.send_signal(signal.SIGTERM)


class _Progress:
    """Lines over the whole study, with the time left by what runs of the same kind took."""

    def __init__(self, runs: Sequence[Run], study: epath.Path, states: dict[str, str]) -> None:
        self._runs, self._path, self._states = runs, study / SECONDS, states
        self._seconds: dict[str, float] = (
            json.loads(self._path.read_text()) if self._path.exists() else {}
        )
        self._start = 0.0
        done = sum(state == DONE for state in states.values())
        log.info('%d runs, %d of them done', len(runs), done)

    def begin(self, run: Run) -> None:
        self._start = time.monotonic()
        number = self._runs.index(run) + 1
        log.info('[%d/%d] %s', number, len(self._runs), run.name)

    def end(self, run: Run, state: str) -> None:
        taken = time.monotonic() - self._start
        self._seconds[run.name] = self._seconds.get(run.name, 0.0) + taken
        self._path.write_text(json.dumps(self._seconds, indent=1))
        left = [
            other for other in self._runs if self._states[other.name] not in (DONE, HAS_DIVERGED)
        ]
        log.info(
            '%s: %s after %s; %d runs left, about %s',
            run.name,
            state,
            tqdm.format_interval(taken),
            len(left),
            tqdm.format_interval(self._estimate(left)),
        )

    def _estimate(self, left: Sequence[Run]) -> float:
        by_kind = collections.defaultdict(list)
        for run in self._runs:
            if run.name in self._seconds and self._states[run.name] == DONE:
                by_kind[_kind(run)].append(self._seconds[run.name])
        known = [seconds for some in by_kind.values() for seconds in some] or [0.0]
        usual = sum(known) / len(known)
        typical = {kind: statistics.median(some) for kind, some in by_kind.items()}
        return sum(typical.get(_kind(run), usual) for run in left)


def _kind(run: Run) -> tuple[str, str]:
    return str(run.facts['role']), str(run.facts.get('path', ''))
