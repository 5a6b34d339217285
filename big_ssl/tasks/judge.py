"""Judging a classifier on the cases of a split: image scores, aggregated to cases, and figures."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import cases, labels
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError
from big_ssl.evaluation import calibration, subgroups, summary
from big_ssl.evaluation.cases import aggregate
from big_ssl.tasks import outputs
from big_ssl.tasks.scores import Scores
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

THRESHOLD = 'val/threshold_at_90_specificity/'

Predict = Callable[[Int[np.ndarray, ' n']], Float[np.ndarray, 'n k']]


@dataclasses.dataclass(frozen=True)
class Split:
    """Labelled rows of the manifest that are judged under one name."""

    name: str
    rows: Int[np.ndarray, ' n']


def splits_of(
    config: ConfigDict, manifest: Manifest, names: list[str], task: Task | None = None
) -> list[Split]:
    """The labelled rows of each of these splits ('+'-joined ones are one).

    Args:
      task: with it, `splits.val` is reduced like the training labels, unless `labels.val` is full.
    """
    found = []
    for name in names:
        rows = labels.labelled(manifest, manifest.rows(config_lib.names(name)))
        if task is not None and name == config.splits.val and config.labels.val == 'alike':
            rows = labels.fraction(manifest, rows, config.label_fraction, config.label_seed, task)
        found.append(Split(name, rows))
    return found


def check_labels(config: ConfigDict, manifest: Manifest, split: Split, task: Task) -> None:
    """Checks the labelled rows of a split.

    Raises:
      InputError: there are none, a label is unknown to the task, the images of a case disagree, or
        a column of `subgroups` is not there.
    """
    if not len(split.rows):
        raise InputError(f'{manifest.path}: no row of split {split.name} has a label')
    labels.encode(manifest, split.rows, task)
    if config.aggregate != 'none':
        named = cases.case_names(manifest, split.rows)
        labels.case_label(manifest, split.rows, cases.codes(named))
        everything = manifest.rows(config_lib.names(split.name))
        others = everything[manifest.label[everything] == '']
        if left_out := int(np.isin(cases.case_names(manifest, others), named).sum()):
            log.warning(
                '%s: split %s: %d images without a label belong to cases that have one; they are '
                'left out, so give all images of a case its label',
                *(manifest.path, split.name, left_out),
            )
    for column in config.subgroups:
        if column not in manifest.further:
            found = ', '.join(manifest.further.columns) or 'none'
            raise InputError(
                f'{manifest.path}: no column {column!r} (--config.subgroups); '
                f'further columns found: {found}'
            )


def score(
    config: ConfigDict, manifest: Manifest, split: Split, task: Task, predict: Predict
) -> Scores:
    """Probabilities of every case of a split, the means of `predict` over its images."""
    rows = split.rows
    case = cases.case_codes(manifest, rows, by_case=config.aggregate != 'none')
    _, probabilities = aggregate(predict(rows), case)
    first = labels.case_label(manifest, rows, case)
    return Scores(
        split=split.name,
        rows=rows,
        case=case,
        first=first,
        probabilities=probabilities,
        targets=labels.encode(manifest, rows[first], task),
        patients=cases.patient_names(manifest, rows[first]),
    )


def quick_figures(scores: Scores, task: Task) -> dict[str, float]:
    """The figures shown while training, without intervals."""
    return summary.without_intervals(
        scores.targets, scores.probabilities, task.classes, multilabel=task.multilabel
    )


def thresholds_of(scores: Scores, task: Task) -> dict[str, float]:
    """Of each class, the score that gives 90% specificity on these cases."""
    return summary.thresholds_at_specificity(
        scores.targets, scores.probabilities, task.classes, task.multilabel
    )


def figures(
    config: ConfigDict,
    manifest: Manifest,
    scores: Scores,
    task: Task,
    thresholds: Mapping[str, float] | None,
) -> dict[str, float]:
    """All figures of a split with their intervals, as `SPLIT/METRIC[/low|/high|/n]`.

    Those of a subgroup are `SPLIT/METRIC@COLUMN=VALUE`.
    """
    found = _summarise(scores, task, thresholds)
    if task.multilabel:
        for name, targets, scored in zip(task.classes, scores.targets.T, scores.probabilities.T):
            if not np.isnan(targets).all():
                error = calibration.binary_calibration_error(targets, scored)
                found[f'calibration_error/{name}'] = error
                found[f'brier_score/{name}'] = calibration.binary_brier_score(targets, scored)
    else:
        both = scores.targets, scores.probabilities
        found['calibration_error'] = calibration.expected_calibration_error(*both)
        found['brier_score'] = calibration.brier_score(*both)
    for column in config.subgroups:
        found |= _of_subgroups(config, manifest, scores, task, column)
    return {f'{scores.split}/{name}': value for name, value in found.items()}


def report(
    config: ConfigDict,
    workdir: epath.Path,
    manifest: Manifest,
    scored: list[Scores],
    task: Task,
    thresholds: Mapping[str, float] | None,
    trained_on: Mapping[str, Any],
    show: Callable[[Mapping[str, bytes]], None] = lambda pictures: None,
    curves: Mapping[str, str] | None = None,
) -> None:
    """Figures of all splits to `result.json`, `predictions.csv` and `report.html`.

    Args:
      show: is given the report's pictures (PNG) by name.
      curves: figures of the method that trained, by name, with their labels.
    """
    result: dict[str, Any] = {
        'task/classes': list(task.classes),
        'task/multilabel': task.multilabel,
        'task/negative': task.negative,
        'task/unit': 'images' if config.aggregate == 'none' else 'cases',  # that are judged
    }
    for scores in scored:
        result |= figures(config, manifest, scores, task, thresholds)
    result |= {THRESHOLD + name: value for name, value in (thresholds or {}).items()}
    result |= trained_on
    outputs.write_evaluation(workdir, manifest, scored, task, result, show, curves)


def report_evaluation(
    config: ConfigDict,
    workdir: epath.Path,
    manifest: Manifest,
    scored: list[Scores],
    task: Task,
    thresholds: Mapping[str, float] | None,
    seen: Mapping[str, Any],
) -> None:
    """`report` of a run that does nothing else: its figures are in `metrics.jsonl` too.

    Their step is that of the classifier's weights; a probe's or neighbours' is 0.
    """
    step = seen.get('trained_on/step', 0)
    with contextlib.closing(MetricsWriter(workdir, 0, config.to_dict())) as writer:
        show = functools.partial(writer.images, step)
        report(config, workdir, manifest, scored, task, thresholds, seen, show)
        for scores in scored:
            writer.write(step, scores.split, quick_figures(scores, task))


def _of_subgroups(
    config: ConfigDict, manifest: Manifest, scores: Scores, task: Task, column: str
) -> dict[str, float | int]:
    """`METRIC@COLUMN=VALUE[/low|/high|/n]`; values of cases as in `predictions.csv`."""
    of_images = manifest.further[[column]].iloc[scores.rows].astype(object)
    values = outputs.of_cases(of_images, scores.case)[column]
    by_group = subgroups.summarise_groups(
        scores.targets,
        scores.probabilities,
        cases.codes(scores.patients),
        task.classes,
        subgroups.groups(values.to_list(), tuple(config.subgroup_edges)),
        multilabel=task.multilabel,
    )
    return {
        '/'.join([f'{head}@{column}={name}', *tail]): value
        for name, found in by_group.items()
        for (head, *tail), value in ((key.split('/', 1), value) for key, value in found.items())
    }


def _summarise(
    scores: Scores, task: Task, thresholds: Mapping[str, float] | None = None
) -> dict[str, float | int]:
    return summary.summarise(
        scores.targets,
        scores.probabilities,
        cases.codes(scores.patients),
        task.classes,
        multilabel=task.multilabel,
        thresholds=thresholds,
    )
