"""What a run leaves for people: `result.json`, `predictions.csv` and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict
from sklearn.metrics import confusion_matrix, roc_curve

import big_ssl
from big_ssl.data import cases
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.evaluation import calibration
from big_ssl.report import page, pictures
from big_ssl.tasks.scores import Scores
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.writers import read_metrics

PAIRS, PREDICTIONS, REPORT = 'pairs.png', 'predictions.csv', 'report.html'
PRETRAINING_CURVES = {
    'loss': 'NT-Xent loss (nats)',
    'contrastive_top1': 'positive beats all negatives (share)',
    'learning_rate': 'learning rate',
    'knn_top1': 'kNN top-1 accuracy',
    'knn_balanced_accuracy': 'kNN balanced accuracy',
    'alignment': 'alignment (lower: closer)',
    'uniformity': 'uniformity (lower: wider)',
    'effective_rank': 'effective rank of the features',
}
FINETUNING_CURVES = {
    'loss': 'cross-entropy (nats)',
    'learning_rate': 'learning rate',
    'top1': 'top-1 accuracy',
    'balanced_accuracy': 'balanced accuracy',
    'auc_macro': 'macro AUC',
}
HEADLINES = ('top1', 'top3', 'balanced_accuracy', 'auc_macro')
SYNTHETIC = 'All images are SYNTHETIC (the embedded phantom set): no figure here says anything about patients.'


def trained_on(
    config: ConfigDict, manifest: Manifest, rows: np.ndarray, step: int
) -> dict[str, Any]:
    """What a model has seen, for `result.json`."""
    patients = manifest.patient_id[rows]
    return {
        'trained_on/data': manifest.path,
        'trained_on/fingerprint': manifest.fingerprint(),
        'trained_on/synthetic': config.dataset.name == 'phantom',
        'trained_on/splits': config.splits.train,
        'trained_on/images': len(rows),
        'trained_on/cases': len(np.unique(cases.case_names(manifest, rows).astype(str))),
        'trained_on/patients': len(set(patients.tolist()) - {''}) or 'not known',
        'trained_on/label_fraction': config.label_fraction,
        'trained_on/init_from': config.init_from or 'random initialisation',
        'trained_on/seed': config.seed,
        'trained_on/step': step,
    }


def write_pretraining(workdir: epath.Path, seen: Mapping[str, Any]) -> None:
    """The last monitored figures as `val/METRIC`, and a report with curves and pairs."""
    if jax.process_index() != 0:
        return
    records = read_metrics(workdir)
    monitored = [record for record in records if record['split'] == 'val']
    last = {
        f'val/{name}': value
        for name, value in monitored[-1].items()
        if name not in ('step', 'split')
    }
    rows = [
        [name, monitored[0].get(name, np.nan), monitored[-1].get(name, np.nan)]
        for name in monitored[-1]
        if name not in ('step', 'split')
    ]
    pairs = (workdir / PAIRS).read_bytes()
    sections = [
        page.Section('What was trained on', _notice(seen), [_facts(seen)]),
        page.Section(
            'Positive pairs',
            'Views of the first batch exactly as the network first saw '
            'them; one row is one example.',
            pictures=[page.Picture('Pairs', pairs)],
        ),
        page.Section(
            'Course',
            'kNN accuracy: bank train, queries val. Alignment and uniformity: Wang & '
            'Isola 2020, on one batch of pairs; a rank or a uniformity near 0 is collapse.',
            [page.Table('Before and after', ['figure', 'at the start', 'at the end'], rows)],
            [page.Picture('By training step', pictures.curves(records, PRETRAINING_CURVES))],
        ),
    ]
    page.page('Pre-training', sections, workdir / REPORT)
    _write_result(workdir, last | dict(seen))


def write_evaluation(
    workdir: epath.Path,
    manifest: Manifest,
    scored: Sequence[Scores],
    task: Task,
    result: Mapping[str, Any],
) -> None:
    """Everything that an evaluation leaves; `result.json` last, so that it means the rest is there."""
    if jax.process_index() != 0:
        return
    table = pd.concat([predictions(manifest, scores, task) for scores in scored])
    workdir_lib.write(workdir / PREDICTIONS, table.to_csv(index=False))
    records = read_metrics(workdir)
    sections = [
        page.Section('What was trained on', _notice(result), [_facts(result)]),
        _overview(result, scored),
    ]
    sections += [_split_section(scores, task, result) for scores in scored]
    if records:
        course = pictures.curves(records, FINETUNING_CURVES)
        sections.append(
            page.Section('Course of training', pictures=[page.Picture('By step', course)])
        )
    page.page('Evaluation', sections, workdir / REPORT)
    _write_result(workdir, result)


def predictions(manifest: Manifest, scores: Scores, task: Task) -> pd.DataFrame:
    """A row for each case: ids, label, one score a class, and the manifest's further columns.

    Where the images of a case differ in a further column, its values are joined by '|'. A further
    column that has the name of one of ours is called `manifest_NAME`.
    """
    first = scores.rows[scores.first]
    ours = pd.DataFrame(
        {
            'split': scores.split,
            'case_id': manifest.case_id[first],
            'patient_id': manifest.patient_id[first],
            'label': manifest.label[first],
        }
        | dict(zip(task.classes, scores.probabilities.T))
    )
    by_case = manifest.further.iloc[scores.rows].groupby(scores.case, sort=True)
    further = by_case.agg(lambda column: '|'.join(dict.fromkeys(column)))
    clashes = {name: f'manifest_{name}' for name in further.columns if name in ours.columns}
    return pd.concat([ours, further.rename(columns=clashes).reset_index(drop=True)], axis=1)


def _write_result(workdir: epath.Path, result: Mapping[str, Any]) -> None:
    content = {'big_ssl/version': big_ssl.__version__, **result}
    workdir_lib.write(workdir / workdir_lib.RESULT, json.dumps(content, indent=2))


def _notice(seen: Mapping[str, Any]) -> str:
    return SYNTHETIC if seen.get('trained_on/synthetic') else ''


def _facts(result: Mapping[str, Any]) -> page.Table:
    rows = [
        [name.removeprefix('trained_on/'), str(value)]
        for name, value in result.items()
        if name.startswith('trained_on/')
    ]
    return page.Table('Training data', ['', ''], rows)


def _interval(result: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    return result[name], result.get(f'{name}/low', np.nan), result.get(f'{name}/high', np.nan)


def _overview(result: Mapping[str, Any], scored: Sequence[Scores]) -> page.Section:
    rows, whiskers = [], []
    for scores in scored:
        for metric in HEADLINES:
            name = f'{scores.split}/{metric}'
            if name in result:
                rows.append([scores.split, metric, *_interval(result, name), result[f'{name}/n']])
                whiskers.append((f'{metric}, {scores.split}', *_interval(result, name)))
    header = ['split', 'metric', 'value', 'low', 'high', 'cases']
    picture = page.Picture('95% intervals', pictures.intervals(whiskers, 'value'))
    return page.Section(
        'Figures',
        'Image scores are averaged to cases. Intervals: 95%, bootstrap over patients '
        '(over cases where no patient is known).',
        [page.Table('By split', header, rows)],
        [picture],
    )


def _split_section(scores: Scores, task: Task, result: Mapping[str, Any]) -> page.Section:
    targets = scores.targets if task.multilabel else np.eye(len(task.classes))[scores.targets]
    rows, lines = [], {}
    for i, name in enumerate(task.classes):
        metrics = [
            f'{scores.split}/{metric}/{name}'
            for metric in ('auc', 'sensitivity_at_val_threshold', 'specificity_at_val_threshold')
        ]
        if metrics[0] not in result:
            continue
        lines[name] = roc_curve(targets[:, i], scores.probabilities[:, i])[:2]
        values = [
            value
            for metric in metrics
            for value in (_interval(result, metric) if metric in result else (np.nan,) * 3)
        ]
        rows.append([name, result[f'{metrics[0]}/n'], *values])
    header = [
        'class',
        'positives',
        *(
            f'{metric}{bound}'
            for metric in ('AUC', 'sensitivity', 'specificity')
            for bound in ('', ' low', ' high')
        ),
    ]
    shown = [page.Picture('ROC, each class against the rest', pictures.roc(lines))] if lines else []
    if not task.multilabel:
        matrix = confusion_matrix(
            scores.targets, scores.probabilities.argmax(axis=1), labels=np.arange(len(task.classes))
        )
        shown.append(page.Picture('Confusion', pictures.confusion(matrix, task.classes)))
        curve = calibration.reliability(scores.targets, scores.probabilities)
        drawn = pictures.reliability(curve.confidence, curve.accuracy, curve.count)
        shown.append(page.Picture('Reliability', drawn))
    text = 'Sensitivity and specificity at the threshold that gives 90% specificity on validation.'
    return page.Section(
        f'Split {scores.split}', text, [page.Table('By class', header, rows)], shown
    )
