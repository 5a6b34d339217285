"""Pieces of work, each of which writes one file: done on local processes, or by Apache Beam.

A piece whose file is there is done, so a run that was killed goes on with the others; a piece
depends on nothing but itself, so it does not matter where it is done.
"""

import abc
import concurrent.futures
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pandas as pd
from etils import epath
from tqdm import tqdm

from big_ssl import processes
from big_ssl.errors import InputError, Preempted
from big_ssl.files import is_remote
from big_ssl.preparation import scan, shards
from big_ssl.preparation.pictures import Reading

log = logging.getLogger(__name__)
_EVERY = 60  # seconds between lines of progress


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """A piece of work.

    Attributes:
      output: path of the Parquet file that it writes, local or remote.
      reading: how source files are read.
    """

    output: str
    reading: Reading

    @property
    @abc.abstractmethod
    def images(self) -> int:
        """How many it reads."""

    @abc.abstractmethod
    def run(self) -> None:
        """Does it; `output` is written last, whole or not at all."""

    def is_done(self) -> bool:
        return epath.Path(self.output).exists()


@dataclasses.dataclass(frozen=True)
class Scan(Task):
    """Looks at source files: see `scan.scan`."""

    paths: Sequence[str]
    rows: np.ndarray

    @property
    def images(self) -> int:
        return len(self.paths)

    def run(self) -> None:
        found = scan.scan(self.paths, self.rows.tolist(), self.reading)
        with written(self.output) as file:
            found.to_parquet(file)


@dataclasses.dataclass(frozen=True)
class Write(Task):
    """Writes a shard, and where its images stand in it: see `shards.write`."""

    shard: str
    listed: pd.DataFrame

    @property
    def images(self) -> int:
        return len(self.listed)

    def run(self) -> None:
        with written(self.shard) as shard:
            places = shards.write(shard, self.listed, self.reading)
        with written(self.output) as file:
            places.to_parquet(file)


@contextlib.contextmanager
def written(target: str) -> Iterator[Path]:
    """A new local file that becomes `target`, local or remote, in one step at the end."""
    remote = is_remote(target)
    folder = tempfile.gettempdir() if remote else str(Path(target).parent)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.writing-') as scratch:
        file = Path(scratch) / Path(target).name
        yield file
        if remote:
            epath.Path(target).write_bytes(file.read_bytes())
        else:
            file.replace(target)


def run_here(tasks: Sequence[Task], what: str, *, workers: int) -> None:
    """Does what is not done yet on so many processes (1: this one), with progress in images.

    A bar on a terminal, elsewhere a line a minute.

    Raises:
      InputError: the first that a piece of work raised.
      Preempted: a process was killed.
    """
    left = [task for task in tasks if not task.is_done()]
    total = sum(task.images for task in tasks)
    done = total - sum(task.images for task in left)
    log.info('%s: %d of %d to do, %d processes', what, total - done, total, workers)
    said = time.monotonic()
    with tqdm(total=total, initial=done, desc=what, unit=' images', disable=None) as bar:
        for images in _done(left, workers):
            bar.update(images)
            done += images
            if bar.disable and time.monotonic() > said + _EVERY:
                said = time.monotonic()
                log.info('%s: %d of %d (%.0f%%)', what, done, total, 100 * done / total)


def _done(tasks: Sequence[Task], workers: int) -> Iterator[int]:
    """How many images each piece of work read, when it is done."""
    if workers == 1:
        for task in tasks:
            task.run()
            yield task.images
        return
    with _pool(min(workers, len(tasks))) as pool:
        with _stops_wait():
            waiting = {pool.submit(task.run): task.images for task in tasks}
        try:
            for done in concurrent.futures.as_completed(waiting):
                done.result()
                yield waiting[done]
        except BrokenProcessPool:
            raise Preempted(
                'a worker was killed, by lack of memory perhaps: fewer --workers need less'
            ) from None


def run_on_beam(tasks: Sequence[Task], what: str, *, runner: str, options: Sequence[str]) -> None:
    """Does what is not done yet by Apache Beam.

    Args:
      runner: Beam's name of it, such as DirectRunner or DataflowRunner.
      options: passed on to Beam, such as '--direct_num_workers=4'.

    Raises:
      InputError: Beam is not installed, or does not know an option.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise InputError("--beam_runner needs Apache Beam: pip install 'big_ssl[beam]'") from None
    left = [task for task in tasks if not task.is_done()]
    log.info('%s on %s: %d of %d pieces to do', what, runner, len(left), len(tasks))
    if not left:
        return
    settings = PipelineOptions([f'--runner={runner}', *options], save_main_session=False)
    try:
        with beam.Pipeline(options=settings) as pipeline:
            pieces = pipeline | 'pieces' >> beam.Create(left) | 'spread' >> beam.Reshuffle()
            _ = pieces | what >> beam.Map(_run)
    except Exception as error:  # Beam puts ours, with its traceback, into words of its own
        if ours := re.findall(r'InputError: (.+?)(?: \[while running|\n|$)', str(error)):
            raise InputError(ours[-1]) from None
        raise


def clear_scratch(folder: str) -> None:
    """Removes what pieces that were killed have left in a local folder."""
    if not is_remote(folder):
        for scratch in Path(folder).glob('.writing-*'):
            shutil.rmtree(scratch, ignore_errors=True)


def _run(task: Task) -> None:
    if not task.is_done():
        task.run()


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[concurrent.futures.Executor]:
    """Processes that end with this one; none are waited for when it has to stop."""
    pool = concurrent.futures.ProcessPoolExecutor(
        max(1, workers), multiprocessing.get_context('spawn'), _begin
    )
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.kill()
        # Its thread cannot be waited for where the stop came while that began.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


@contextlib.contextmanager
def _stops_wait() -> Iterator[None]:
    """SIGTERM and Ctrl-C are heard at the end of this.

    A process that is being started when its parent stops ends in a traceback of its own: nobody
    knows it yet, to kill it, and what it was to be told never comes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: heard.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for caught in heard[:1]:
            signal.raise_signal(caught)


def _begin() -> None:
    processes.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: this process's parent decides
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
