"""Where numbers and pictures go while training: JSON lines, and events for TensorBoard."""

import functools
import io
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from PIL import Image

from big_ssl.files import METRICS
from big_ssl.host_tensorflow import import_tensorflow
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.lazy_clu import asynclib, metric_writers
from big_ssl.train.spool import Spool

log = logging.getLogger(__name__)


class MetricsWriter:
    """`metrics.jsonl` and TensorBoard events of a workdir; only process 0 writes.

    What an interrupted run wrote after the step it resumes from is dropped, so that each step is
    there once; a run that starts at step 0 (again) drops everything. Into a bucket both are copied
    once a minute, and when `flush` asks for it.

    Writing happens in threads, and TensorFlow is imported in one of them: every method but the
    first raises what went wrong there (OSError: the disk is full, say) since the last call.

    Args:
      resumed_step: the step that the run goes on from.
      settings: of the run, for TensorBoard's tab HPARAMS.

    Attributes:
      folder: where further files for TensorBoard may be written, None where nothing is.
    """

    def __init__(
        self, workdir: epath.Path, resumed_step: int, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.folder: epath.Path | None = None
        if jax.process_index() != 0:
            return
        self._spool = Spool(workdir)
        self.folder = self._spool.folder
        first = resumed_step + 1 if resumed_step else 0
        again, path = (workdir / METRICS).exists(), self.folder / METRICS
        kept = [json.dumps(line) for line in read_metrics(workdir) if line['step'] < first]
        workdir_lib.write(path, ''.join(line + '\n' for line in kept))
        self._spool.flush()
        events = _Events(self.folder, drop_from=first if again else None)
        self._writer = metric_writers.AsyncMultiWriter([JsonLines(path, self._spool.rest), events])
        self._writer.write_hparams(settings or {})

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Adds one line, or none where there are no values, which must be finite numbers."""
        if self.folder is not None and values:
            named = {f'{split}/{name}': value for name, value in values.items()}
            _in_the_open(lambda: self._writer.write_scalars(step, named))

    def images(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Shows pictures (PNG) by name in TensorBoard's tab IMAGES."""
        if self.folder is not None:
            decoded = {name: _decoded(picture) for name, picture in pictures.items()}
            _in_the_open(lambda: self._writer.write_images(step, decoded))

    def flush(self) -> None:
        """Waits until all is written, so that a kill loses nothing of it."""
        if self.folder is not None:
            _in_the_open(self._writer.flush)
            self._spool.flush()

    def close(self) -> None:
        if self.folder is not None:
            try:
                _in_the_open(self._writer.close)
            finally:
                self._spool.close()


class JsonLines(metric_writers.MetricWriter):
    """Scalars called `SPLIT/NAME`: a line for each call, on disk when it returns.

    Args:
      path: of the file that lines are added to.
      written: called after each line.
    """

    def __init__(self, path: epath.Path, written: Callable[[], None]) -> None:
        self._path, self._written = path, written

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds a line; the scalars of a call are of one split."""
        (split,) = {name.partition('/')[0] for name in scalars}
        values = {name.partition('/')[2]: value for name, value in scalars.items()}
        with self._path.open('a') as file:
            file.write(json.dumps({'step': step, 'split': split, **values}) + '\n')
        self._written()

    def flush(self) -> None:
        """Nothing is kept back."""

    close = flush

    def _no_line(self, *args: Any, **kwargs: Any) -> None:
        """What is not a number has no place in a line."""

    write_summaries = write_images = write_videos = write_audios = _no_line
    write_texts = write_histograms = write_hparams = _no_line


class _Events:
    """clu's writer of TensorBoard's events, made in the thread that uses it first.

    Without TensorFlow it writes nothing, and says so once.

    Args:
      drop_from: TensorBoard is told to drop what earlier files hold from this step on.
    """

    def __init__(self, folder: epath.Path, drop_from: int | None) -> None:
        self._folder, self._drop_from = folder, drop_from

    def __getattr__(self, method: str) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            try:
                getattr(self._writer, method)(*args, **kwargs)
            except Exception as error:  # TensorFlow has its own for what a disk refuses
                raise workdir_lib.of_disk(error, self._folder) or error from None

        call.__name__ = method
        return call

    @functools.cached_property
    def _writer(self) -> Any:
        try:
            tf = import_tensorflow()
        except Exception as error:  # of whatever does not fit together
            log.info('no TensorBoard events, TensorFlow cannot be imported: %s', error)
            return metric_writers.MultiWriter([])
        if self._drop_from is not None:
            time.sleep(1)  # files are read in the order of their names, which have whole seconds
            with tf.Graph().as_default():
                start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
                file = tf.compat.v1.summary.FileWriter(str(self._folder))
                for _ in range(2):  # the first one that is read drops nothing
                    file.add_session_log(start, self._drop_from)
                file.close()
        return metric_writers.SummaryWriter(str(self._folder))


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


def _in_the_open(call: Callable[[], None]) -> None:
    """Raises what a thread raised as it was, without clu's wrapping."""
    try:
        call()
    except asynclib.AsyncError as error:
        cause: BaseException = error
        while isinstance(cause, asynclib.AsyncError) and cause.__cause__:
            cause = cause.__cause__
        raise cause from None


def _decoded(picture: bytes) -> np.ndarray:
    """Of a PNG, uint8 [h, w, 3]."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert('RGB'))
