"""What training a classifier reads, and how it is judged: on validation, then on test.

It reads single images with their case's label, every case equally often.
"""

import dataclasses
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


@dataclasses.dataclass
class Observer:
    """Judges a classifier: on validation while it trains, on all of `splits.evaluate` at its end.

    Attributes:
      should_stop: asked once a batch of the last judgement.
    """

    method: Method
    data: Data
    first: Source
    workdir: epath.Path
    writer: MetricsWriter
    should_stop: Any

    def __post_init__(self) -> None:
        method = self.method
        self.config, self.score = method.config, SCORE if method.config.select == 'best' else None
        self.predict = trained.make_forward(method.network, self.data.task, method.mesh)
        self.validated = evaluation.keeping()

    def begin(self) -> None:
        """Nothing is shown of a fine-tuning's first batch."""

    def monitor(self, state: TrainState) -> loop.Metrics:
        if self.data.validation is None:
            return {}
        scores = self._scored(state, self.data.validation, read=self.validated)
        return judge.quick_figures(scores, self.data.task)

    def end(self, state: TrainState, about: dict[str, Any], checkpoints: Checkpoints) -> None:
        data, config = self.data, self.config
        state, selected = _selected(config, checkpoints, state)
        scored = [self._scored(state, split, self.should_stop) for split in data.judged]
        thresholds = judge.thresholds_of(scored[0], data.task) if data.validation else None
        seen = provenance.at_step(about, int(state.step)) | {'evaluated/checkpoint': selected}
        show = functools.partial(self.writer.images, int(state.step))
        judge.report(
            config,
            self.workdir,
            data.manifest,
            scored,
            data.task,
            thresholds,
            seen,
            show,
            self.method.figures,
        )

    def _scored(
        self, state: TrainState, split: Split, stop: Any = None, read: Any = evaluation.batches
    ) -> Scores:
        data = self.data
        of_state = functools.partial(self.predict, state.params, state.batch_stats)

        def probabilities(rows: np.ndarray) -> np.ndarray:
            found = inference.over_images(
                self.config, data.table, rows, of_state, self.method.mesh, stop, read
            )
            return found['probabilities']

        return judge.score(self.config, data.manifest, split, data.task, probabilities)


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
