"""What training a classifier reads, and how it is judged: on validation, then on test.

It reads single images with their case's label, every case equally often.
"""

import functools
import logging
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from big_ssl.data import evaluation
from big_ssl.data.batches import Source
from big_ssl.methods import Method
from big_ssl.tasks import inference, judge, provenance, trained
from big_ssl.tasks.judge import Split
from big_ssl.tasks.labelled import Data, open_data
from big_ssl.tasks.scores import Scores
from big_ssl.train import loop
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

__all__ = ['Observer', 'open_data']

log = logging.getLogger(__name__)

SCORE = 'auc_macro_all'  # of validation, picks the best checkpoint


class Observer:
    """Judges a classifier: on validation while it trains, on all of `splits.evaluate` at its end.

    Args:
      should_stop: asked once a batch of the last judgement.
    """

    def __init__(
        self,
        method: Method,
        data: Data,
        first: Source,
        workdir: epath.Path,
        writer: MetricsWriter,
        should_stop: Any,
    ) -> None:
        self._config, self._data, self._mesh = method.config, data, method.mesh
        self._curves = method.figures
        self._workdir, self._writer, self._should_stop = workdir, writer, should_stop
        self._predict = trained.make_forward(method.network, data.task, method.mesh)
        self._validated = evaluation.keeping()
        self.score = SCORE if self._config.select == 'best' else None

    def begin(self) -> None:
        """Nothing is shown of a fine-tuning's first batch."""

    def monitor(self, state: TrainState) -> loop.Metrics:
        if self._data.validation is None:
            return {}
        scores = self._scored(state, self._data.validation, read=self._validated)
        return judge.quick_figures(scores, self._data.task)

    def end(self, state: TrainState, about: dict[str, Any], checkpoints: Checkpoints) -> None:
        data, config = self._data, self._config
        state, selected = _selected(config, checkpoints, state)
        scored = [self._scored(state, split, self._should_stop) for split in data.judged]
        thresholds = judge.thresholds_of(scored[0], data.task) if data.validation else None
        seen = provenance.at_step(about, int(state.step)) | {'evaluated/checkpoint': selected}
        show = functools.partial(self._writer.images, int(state.step))
        judge.report(
            config,
            self._workdir,
            data.manifest,
            scored,
            data.task,
            thresholds,
            seen,
            show,
            self._curves,
        )

    def _scored(
        self, state: TrainState, split: Split, stop: Any = None, read: Any = evaluation.batches
    ) -> Scores:
        data = self._data
        of_state = functools.partial(self._predict, state.params, state.batch_stats)

        def probabilities(rows: np.ndarray) -> np.ndarray:
            found = inference.over_images(
                self._config, data.table, rows, of_state, self._mesh, stop, read
            )
            return found['probabilities']

        return judge.score(self._config, data.manifest, split, data.task, probabilities)


def _selected(
    config: ConfigDict, checkpoints: Checkpoints, last: TrainState
) -> tuple[TrainState, str]:
    """The state that is evaluated, and whether it is the `best` on validation or the `last`."""
    if config.select != 'best':
        return last, 'last'
    best = checkpoints.best()
    if best is None:
        log.warning('%s: no %s (one class?), evaluating the last step', config.splits.val, SCORE)
        return last, 'last'
    log.info('evaluating step %d, the best on %s', best, config.splits.val)
    return checkpoints.restore(best, last), 'best'
