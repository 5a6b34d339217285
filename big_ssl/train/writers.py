"""Where numbers go while training: JSON lines, TensorBoard events, and a person's terminal."""

import json
import logging
import sys
import time
from collections.abc import Mapping

import jax
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tqdm import tqdm

from big_ssl.files import METRICS
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.events import EventFileWriter
from big_ssl.train.spool import Spool

log = logging.getLogger(__name__)


class MetricsWriter:
    """`metrics.jsonl` and TensorBoard events of a workdir; only process 0 writes.

    What an interrupted run wrote after the step it resumes from is dropped, so that each step is
    there once; a run that starts at step 0 (again) drops everything. Into a bucket both are copied
    once a minute, and when `flush` asks for it.

    Attributes:
      folder: where further files for TensorBoard may be written, None where nothing is.
    """

    def __init__(self, workdir: epath.Path, resumed_step: int) -> None:
        self.folder: epath.Path | None = None
        self._active = jax.process_index() == 0
        if not self._active:
            return
        self._spool = Spool(workdir)
        self.folder = self._spool.folder
        self._path = self.folder / METRICS
        first = resumed_step + 1 if resumed_step else 0
        kept = [json.dumps(line) for line in read_metrics(workdir) if line['step'] < first]
        workdir_lib.write(self._path, ''.join(line + '\n' for line in kept))
        self._spool.flush()
        self._events = EventFileWriter(str(self.folder))
        start = SessionLog(status=SessionLog.START)
        self._events.add_event(Event(session_log=start, step=first))

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds one line; values must be finite numbers."""
        if not self._active:
            return
        line = json.dumps({'step': step, 'split': split, **values}) + '\n'
        with self._path.open('a') as file:
            file.write(line)
        tags = [
            Summary.Value(tag=f'{split}/{name}', simple_value=value)
            for name, value in values.items()
        ]
        self._events.add_event(Event(step=step, summary=Summary(value=tags)))
        self._spool.rest()

    def flush(self) -> None:
        """Makes sure that a kill loses nothing of what was written."""
        if self._active:
            self._spool.flush()

    def close(self) -> None:
        if self._active:
            self._events.close()
            self._spool.close()


def read_metrics(workdir: epath.Path) -> list[dict]:
    """The lines of `metrics.jsonl`; one that was cut off by a kill is left out."""
    path = workdir / METRICS
    if not path.exists():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return lines


class Progress:
    """Step, values, images a second and time left: a bar on a terminal, log lines elsewhere."""

    def __init__(self, total: int, first: int, what: str) -> None:
        self._total, self._first, self._what = total, first, what
        self._start: float | None = None
        on_terminal = sys.stderr.isatty() and jax.process_index() == 0
        self._bar = (
            tqdm(total=total, initial=first, desc=what, unit='step') if on_terminal else None
        )

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """To be called from time to time, the first time right after the first (compiling) step."""
        text = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
        now = time.monotonic()
        if self._start is None:
            self._start, self._first = now, step
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            self._bar.update(step - self._bar.n)
        elif step > self._first:
            left = (now - self._start) / (step - self._first) * (self._total - step)
            log.info(
                '%s step %d/%d  %s  ETA %s',
                self._what,
                step,
                self._total,
                text,
                tqdm.format_interval(left),
            )

    def say(self, text: str) -> None:
        """A line that does not break the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            log.info('%s', text)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
