"""Judging on `splits.evaluate` without training a network.

`classifier` says whose predictions: those of the classifier of `init_from`, or those of a linear
probe or of the nearest neighbours, made here from frozen features of the training split.
"""

import logging
from typing import Any

from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl.files import RESULT
from big_ssl.tasks import frozen, judge, judged_step, provenance, trained
from big_ssl.tasks.labelled import open_judged
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.distributed import StopRequest

log = logging.getLogger(__name__)


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Writes the result and the report of a judgement."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    judged = _trained if config.classifier == 'trained' else frozen.judged
    judged(config, workdir, mesh, should_stop)


def _trained(config: ConfigDict, workdir: epath.Path, mesh: Mesh, should_stop: StopRequest) -> None:
    model = trained.load_classifier(config, mesh, should_stop)
    thresholds = _thresholds(config.init_from, model.seen['trained_on/step'])
    manifest, splits, table = open_judged(config, model.task)
    workdir_lib.begin(workdir, config.to_dict())
    scored = [
        judge.score(
            config, manifest, split, model.task, lambda rows: model.probabilities(table, rows)
        )
        for split in splits
    ]
    seen: dict[str, Any] = {
        **provenance.applied_to(manifest),
        'evaluated/init_from': config.init_from,
    }
    judge.report_evaluation(
        config, workdir, manifest, scored, model.task, thresholds, model.seen | seen
    )


def _thresholds(init_from: str, step: int) -> dict[str, float]:
    """The operating points that the training run chose on its validation split, for these weights.

    Raises:
      InputError: the `result.json` of the training run cannot be read.
    """
    judgement = judged_step.of_weights(init_from, step)
    thresholds = {
        name.removeprefix(judge.THRESHOLD): value
        for name, value in judgement.result.items()
        if name.startswith(judge.THRESHOLD)
    }
    if not thresholds:
        why = judgement.why_not or f'none in {judged_step.workdir_of(init_from) / RESULT}'
        log.warning('no thresholds from validation: %s. Figures at them are left out', why)
    return thresholds
