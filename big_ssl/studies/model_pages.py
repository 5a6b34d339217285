"""Sections of a report that look into the trained models."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict
from sklearn.metrics import confusion_matrix

from big_ssl import methods
from big_ssl.evaluation import embedding_map
from big_ssl.files import PAIRS
from big_ssl.report import multiples, pictures
from big_ssl.report.page import Picture, Section, Table
from big_ssl.studies import cells, class_tables, design
from big_ssl.studies.results import Group, name_of
from big_ssl.studies.run import Run
from big_ssl.studies.tables import NAMES, Tables
from big_ssl.tasks.pages import (
    CALIBRATION,
    FINETUNING_CURVES,
    PRETRAINING_CURVES,
    calibration_rule,
)
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.writers import read_metrics

MAPS = {
    'pca': (embedding_map.pca, multiples.COMPONENTS),
    'umap': (embedding_map.umap, ('UMAP 1', 'UMAP 2')),
}


def by_class(split: str, some: list[Group], known: Tables) -> Section | None:
    whole = [group for group in some if group.whole]
    if not whole:
        return None
    task = whole[0].models[0].task
    best = _best(split, whole, known)
    table = known.by_class[known.by_class['split'] == split]
    caption = 'AUC of each class [95%]'
    shown = [cells.side_by_side(caption, table, ['class', 'positives'])] if len(table) else []
    points = known.operating_points
    if len(points):
        for metric, part in cells.parts(points[points['split'] == split], 'metric'):
            caption = f'{metric.capitalize()} at 90% specificity on validation, first seeds [95%]'
            shown.append(cells.side_by_side(caption, part, ['class']))
    shown.append(_calibration(known.calibration[known.calibration['split'] == split]))
    curves = class_tables.roc(whole)
    reliable = class_tables.reliability(whole)
    drawn = []
    if len(curves):
        picture = multiples.roc(curves)
        drawn.append(Picture('ROC, each class against the rest', picture, curves, f'roc_{split}'))
    if len(reliable):
        picture = multiples.reliability(reliable, binary=task.multilabel)
        drawn.append(Picture('Reliability', picture, reliable, f'reliability_{split}'))
    if not task.multilabel:
        model = best.models[0]
        numbers = np.arange(len(task.classes))
        matrix = confusion_matrix(model.targets, model.probabilities.argmax(axis=1), labels=numbers)
        data = pd.DataFrame(matrix, columns=list(task.classes))
        data.insert(0, 'true class', list(task.classes))
        drawn.append(
            Picture(
                f'Confusion, {best.name}',
                pictures.confusion(matrix, task.classes),
                data,
                f'confusion_{split}',
            )
        )
    return Section(
        f'By class: {split}',
        'Curves and the confusion matrix are of the first seed of each method. '
        f'{calibration_rule(task)}',
        shown,
        drawn,
    )


def _calibration(figures: pd.DataFrame) -> Table:
    rows = []
    for (name, method), part in cells.parts(figures, ['class', 'method']):
        found = {row.metric: [row.value, cells.deviation(row.sd)] for row in cells.rows(part)}
        values = itertools.chain.from_iterable(found[metric] for metric in CALIBRATION)
        rows.append([*filter(None, [name]), method, *values])
    header = ['class', 'method'] if figures['class'].any() else ['method']
    header += itertools.chain.from_iterable((name, 'sd seeds') for name in CALIBRATION.values())
    return Table('Calibration, mean over seeds', header, rows)


def _best(split: str, some: Sequence[Group], known: Tables) -> Group:
    """The group with the highest macro AUC (else the first figure there is)."""
    table = known.summaries[(known.summaries['split'] == split) & known.summaries['whole']]
    for metric in NAMES:
        rows = table[table['metric'] == metric]
        if len(rows):
            name = cells.highest(rows).method
            return next(group for group in some if group.name == name)
    return some[0]


def embeddings(config: ConfigDict, done: Sequence[Run], study: epath.Path) -> Section | None:
    parts = []
    for run in done:
        if run.facts['role'] != design.EMBEDDING:
            continue
        table = pd.read_parquet(run.folder(study) / 'embeddings.parquet')
        columns = [name for name in table if str(name).startswith('feature_')]
        x, y = MAPS[config.embedding_map][0](table[columns].to_numpy()).T
        name = name_of(run.facts['method'], run.facts['network'])
        label = table['label'].where(table['label'] != '', None)
        parts.append(pd.DataFrame({'method': name, 'x': x, 'y': y, 'class': label}))
    if not parts:
        return None
    points, axes = pd.concat(parts), MAPS[config.embedding_map][1]
    return Section(
        'Embeddings',
        f'Features of the images of {config.embed_split} before fine-tuning, first seed; each '
        'encoder has axes of its own.',
        pictures=[Picture('Embeddings', multiples.embeddings(points, axes), points, 'embeddings')],
    )


def pairs(done: Sequence[Run], study: epath.Path) -> Section | None:
    shown: list[tuple[Run, bytes]] = []
    for run in done:
        path = run.folder(study) / PAIRS
        new = run.facts.get('path') not in [each.facts['path'] for each, _ in shown]
        if run.facts['role'] == design.PRETRAINING and path.exists() and new:
            shown.append((run, path.read_bytes()))
    if not shown:
        return None
    drawn = [
        Picture(run.facts['path'].replace('-', ' → '), png, name=f'pairs_{run.facts["path"]}')
        for run, png in shown[-2:]
    ]
    return Section('Positive pairs', 'Views of the first batch, one example a row.', [], drawn)


def curves(config: ConfigDict, done: Sequence[Run], study: epath.Path) -> Section | None:
    drawn, most = [], max(config.label_fractions)
    for title, role in (('Pre-training', design.PRETRAINING), ('Fine-tuning', design.FINETUNING)):
        rows = [
            row
            for run in done
            if run.facts['role'] == role and run.facts.get('fraction', most) == most
            for row in _course(run, study)
        ]
        if rows:
            points = pd.DataFrame(rows)
            file = f'curves_{title.lower().replace("-", "")}'
            drawn.append(Picture(title, multiples.learning_curves(points), points, file))
    return Section('Course of training', '', [], drawn) if drawn else None


def _course(run: Run, study: epath.Path) -> list[dict[str, Any]]:
    """Loss, and what shows on validation whether the weights are good, by step."""
    records = read_metrics(run.folder(study))
    name = workdir_lib.config_of(str(run.folder(study)))['method']['name']
    labels = {**methods.load(name).make.figures, **PRETRAINING_CURVES, **FINETUNING_CURVES}
    what = run.facts.get('method') or run.facts['path']
    return [
        {
            'metric': f'{labels[key]}, {record["split"]}',
            'method': name_of(what, run.facts['network']),
            'run': run.name,
            'step': record['step'],
            'value': record[key],
        }
        for record in records
        for key in ('loss', 'knn_top1', 'auc_macro_all')
        if key in record
    ]
