"""Judging a classifier on the cases of a split: image scores, aggregated to cases, and figures."""

import functools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.augment.simclr import to_float
from big_ssl.data import cases, labels, source
from big_ssl.data.images import ImageTable
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError
from big_ssl.evaluation import calibration, summary
from big_ssl.evaluation.cases import aggregate
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, outputs, predict, provenance
from big_ssl.tasks.scores import Scores
from big_ssl.train import init_from
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.distributed import StopRequest

log = logging.getLogger(__name__)

THRESHOLD = 'val/threshold_at_90_specificity/'
QUICK = ('top1', 'balanced_accuracy', 'auc_macro')  # shown while training
SAME_AS_TRAINED = (*init_from.ENCODER_KEYS, 'image_size', 'crop.evaluation', 'dataset.channels')

Forward = Callable[[jax.Array], Mapping[str, jax.Array]]


def make_forward(network: ClassifierNetwork, multilabel: bool, mesh: Mesh) -> Callable[..., Any]:
    """(params, batch_stats, uint8 images) → probabilities, compiled, whole on every device."""

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def forward(params: Any, batch_stats: Any, images: jax.Array) -> dict[str, jax.Array]:
        variables = {'params': params, 'batch_stats': batch_stats}
        out: Any = network.apply(variables, to_float(images), train=False)
        to_probability = jax.nn.sigmoid if multilabel else jax.nn.softmax
        return {'probabilities': to_probability(out['logits'])}

    return forward


def check_labels(
    config: ConfigDict, manifest: Manifest, split: str, rows: np.ndarray, task: Task
) -> None:
    """Checks the labelled rows of a split.

    Raises:
      InputError: there are none, a label is unknown to the task, or the images of a case disagree.
    """
    if not len(rows):
        raise InputError(f'{manifest.path}: no row of split {split} has a label')
    labels.encode(manifest, rows, task)
    if config.aggregate != 'none':
        labels.case_label(manifest, rows, cases.codes(cases.case_names(manifest, rows)))


def score(
    config: ConfigDict,
    table: ImageTable,
    split: str,
    task: Task,
    forward: Forward,
    mesh: Mesh,
    should_stop: Callable[[], bool] | None = None,
) -> Scores:
    """Probabilities of every labelled case of a split ('+'-joined splits are one)."""
    manifest = table.manifest
    rows = labels.labelled(manifest, manifest.rows(config_lib.names(split)))
    probabilities = predict.over_images(config, table, rows, forward, mesh, should_stop)[
        'probabilities'
    ]
    by_case = config.aggregate != 'none'
    case = cases.codes(cases.case_names(manifest, rows)) if by_case else np.arange(len(rows))
    _, probabilities = aggregate(probabilities, case)
    first = labels.case_label(manifest, rows, case)
    return Scores(
        split=split,
        rows=rows,
        case=case,
        first=first,
        probabilities=probabilities,
        targets=labels.encode(manifest, rows[first], task),
        patients=cases.patient_names(manifest, rows[first]),
    )


def quick_figures(scores: Scores, task: Task) -> dict[str, float]:
    """The figures shown while training, without intervals."""
    found = summary.summarise(
        scores.targets,
        scores.probabilities,
        cases.codes(scores.patients),
        task.classes,
        multilabel=task.multilabel,
        thresholds=None,
        replicates=0,
    )
    return {name: float(found[name]) for name in QUICK if name in found}


def thresholds_of(scores: Scores, task: Task) -> dict[str, float]:
    """Of each class, the score that gives 90% specificity on these cases."""
    return summary.thresholds_at_specificity(
        scores.targets, scores.probabilities, task.classes, task.multilabel
    )


def figures(
    config: ConfigDict, scores: Scores, task: Task, thresholds: Mapping[str, float] | None
) -> dict[str, float]:
    """All figures of a split with their intervals, as `SPLIT/METRIC[/low|/high|/n]`."""
    found = summary.summarise(
        scores.targets,
        scores.probabilities,
        cases.codes(scores.patients),
        task.classes,
        multilabel=task.multilabel,
        thresholds=thresholds,
        replicates=config.bootstrap_replicates,
        seed=config.seed,
    )
    if not task.multilabel:
        found['calibration_error'] = calibration.expected_calibration_error(
            scores.targets, scores.probabilities
        )
    return {f'{scores.split}/{name}': value for name, value in found.items()}


def report(
    config: ConfigDict,
    workdir: epath.Path,
    manifest: Manifest,
    scored: list[Scores],
    task: Task,
    thresholds: Mapping[str, float] | None,
    trained_on: Mapping[str, Any],
) -> None:
    """Figures of all splits to `result.json`, `predictions.csv` and `report.html`."""
    result: dict[str, Any] = {}
    for scores in scored:
        result |= figures(config, scores, task, thresholds)
    result |= {THRESHOLD + name: value for name, value in (thresholds or {}).items()}
    outputs.write_evaluation(workdir, manifest, scored, task, result | dict(trained_on))


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Evaluates the classifier of `init_from` on `splits.evaluate` without any training."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    if not config.init_from:
        raise InputError('config: task=evaluate needs --config.init_from=WORKDIR of a fine-tuning')
    trained = init_from.load(config.init_from)
    if 'task' not in trained.about:
        raise InputError(f'init_from: {config.init_from} has no classifier; fine-tune it first')
    init_from.check_settings(trained, config, SAME_AS_TRAINED)
    task = Task(**{**trained.about['task'], 'classes': tuple(trained.about['task']['classes'])})
    manifest = source.open_manifest(config)
    splits = config_lib.names(config.splits.evaluate)
    rows = labels.labelled(manifest, manifest.rows(splits))
    for split in splits:
        check_labels(config, manifest, split, rows[manifest.split[rows] == split], task)
    table = source.open_images(config, manifest, rows)
    workdir_lib.begin(workdir, config.to_dict())

    network = ClassifierNetwork(build.make_encoder(config), len(task.classes))
    forward = make_forward(network, task.multilabel, mesh)
    weights = mesh_lib.copy(trained.weights, mesh)
    scored = [
        score(
            config,
            table,
            split,
            task,
            functools.partial(forward, weights['params'], weights['batch_stats']),
            mesh,
            should_stop,
        )
        for split in splits
    ]
    result = epath.Path(config.init_from) / workdir_lib.RESULT
    known = json.loads(result.read_text()) if result.exists() else {}
    thresholds = {
        name.removeprefix(THRESHOLD): value
        for name, value in known.items()
        if name.startswith(THRESHOLD)
    }
    if not thresholds:
        log.info('no thresholds from validation in %s: figures at them are left out', result)
    report(
        config,
        workdir,
        manifest,
        scored,
        task,
        thresholds,
        provenance.at_step(trained.about, trained.step)
        | {'evaluated/data': manifest.fingerprint(), 'evaluated/init_from': config.init_from},
    )
