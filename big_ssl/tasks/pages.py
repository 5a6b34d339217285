"""What the reports show: figures, curves and pictures of a run, section by section."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, roc_curve

from big_ssl.data.labels import Task
from big_ssl.evaluation import calibration
from big_ssl.evaluation.class_frequencies import MIN_POSITIVES
from big_ssl.evaluation.influence import MIN_PATIENTS
from big_ssl.report import multiples, pictures
from big_ssl.report.page import Picture, Section, Table
from big_ssl.tasks.scores import Scores

PRETRAINING_CURVES = {  # besides those of the method
    'learning_rate': 'learning rate',
    'knn_top1': 'kNN top-1 accuracy',
    'knn_balanced_accuracy': 'kNN balanced accuracy',
    'alignment': 'alignment (lower: closer)',
    'uniformity': 'uniformity (lower: wider)',
    'effective_rank': 'effective rank',
}
FINETUNING_CURVES = {  # besides those of the method
    'learning_rate': 'learning rate',
    'top1': 'top-1 accuracy',
    'balanced_accuracy': 'balanced accuracy',
    'auc_macro_all': 'macro AUC',
}
HEADLINES = ('top1', 'top3', 'balanced_accuracy', 'auc_macro', 'auc_macro_all')
BY_CLASS = {
    'auc': 'AUC',
    'sensitivity_at_val_threshold': 'sensitivity',
    'specificity_at_val_threshold': 'specificity',
}
CALIBRATION = {'calibration_error': 'ECE', 'brier_score': 'Brier score'}
HEADLINES_OF_GROUPS = ('top1', 'balanced_accuracy', 'auc_macro')
INTERVAL_RULE = (
    'Intervals are 95%. They say how far the figure would move with other patients (other cases '
    'where no patient is known): cases of one patient are not taken for independent, also where a '
    "patient is in several classes. They are Wilson's score intervals with Student's t, and there "
    f'is none with fewer than {MIN_PATIENTS} patients behind a class (or positives, or negatives), '
    'or if one or two of them have most of its cases: nothing could be said. With fewer than ten '
    'patients behind a class, and for figures near 1, they are on the wide side.'
)
MACRO_RULE = (
    f'auc_macro is the mean over the classes with at least {MIN_POSITIVES} positive cases in the '
    'split; rarer ones are shown and left out of it. auc_macro_all is over every class that occurs.'
)
SYNTHETIC = (
    'All images are SYNTHETIC (the embedded phantom set): no figure here says anything about '
    'patients.'
)


def pretraining(
    records: Sequence[Mapping[str, Any]],
    pairs: bytes,
    seen: Mapping[str, Any],
    figures: Mapping[str, str],
) -> list[Section]:
    """Sections on a run of pre-training.

    Args:
      records: lines of `metrics.jsonl`.
      pairs: PNG of the first positive pairs.
      seen: what was trained on.
      figures: of the method, by name, with their labels.
    """
    monitored = [record for record in records if record['split'] == 'val']
    start, end = monitored[0], monitored[-1]
    rows = [[key, start.get(key, np.nan), end[key]] for key in end if key not in ('step', 'split')]
    drawn = pictures.curves(records, {**figures, **PRETRAINING_CURVES})
    curves = Picture('By training step', drawn)
    return [
        _training_data(seen),
        Section(
            'Positive pairs',
            'Views of the first batch exactly as the network first saw them, one example a row.',
            pictures=[Picture('Pairs', pairs)],
        ),
        Section(
            'Course',
            'kNN accuracy: bank train, queries val. Alignment and uniformity (Wang & Isola 2020) '
            'are of one batch of pairs, the effective rank (Roy & Vetterli 2007) of its features: '
            'uniformity near 0 or a rank near 1 is a collapse.',
            [Table('Before and after', ['figure', 'at the start', 'at the end'], rows)],
            [curves],
        ),
    ]


def predicted(seen: Mapping[str, Any], counts: Mapping[str, int]) -> list[Section]:
    """Sections on a model's predictions; `counts` are the cases of each predicted class."""
    tables = [Table('By class', ['predicted class', 'cases'], [*counts.items()])] if counts else []
    return [
        _training_data(seen),
        Section(
            'Predictions',
            f'{seen["predicted/cases"]} cases, {seen["predicted/images"]} images; the scores are '
            'in predictions.csv and predictions.parquet.',
            tables,
        ),
    ]


def embedded(seen: Mapping[str, Any], points: pd.DataFrame) -> list[Section]:
    """Sections on features; `points` is their map: x, y and class (missing: no label)."""
    return [
        _training_data(seen),
        Section(
            'Embeddings',
            f'{seen["embedded/features"]} features of each of {seen["embedded/images"]} images, in '
            'embeddings.csv and embeddings.parquet.',
            pictures=[
                Picture('Principal components', multiples.embeddings(points.assign(method='')))
            ],
        ),
    ]


def evaluation(
    records: Sequence[Mapping[str, Any]],
    scored: Sequence[Scores],
    task: Task,
    result: Mapping[str, Any],
    figures: Mapping[str, str],
) -> list[Section]:
    """Sections on a classifier.

    Args:
      records: lines of `metrics.jsonl`, none where nothing was trained.
      scored: each judged split.
      task: its classes.
      result: figures as in `result.json`.
      figures: of the method that trained it, by name, with their labels.
    """
    sections = [_training_data(result), _overview(result, scored)]
    sections += [_split(scores, task, result) for scores in scored]
    if records:
        curves = pictures.curves(records, {**figures, **FINETUNING_CURVES})
        course = Picture('By training step', curves)
        sections.append(Section('Course of training', pictures=[course]))
    return sections


def calibration_rule(task: Task) -> str:
    """What the figures of `CALIBRATION` are."""
    brier = (
        'squared difference of probability and outcome, 0 to 1'
        if task.multilabel
        else 'squared differences of probabilities and outcome, summed over the classes, 0 to 2'
    )
    return (
        f'ECE: expected calibration error, 0 to 1. Brier score: {brier}. Of both, less is better.'
    )


def _training_data(result: Mapping[str, Any]) -> Section:
    facts = {
        name.removeprefix('trained_on/'): str(value)
        for name, value in result.items()
        if name.startswith('trained_on/')
    }
    notice = SYNTHETIC if result.get('trained_on/synthetic') else ''
    return Section(
        'What was trained on', notice, [Table('Training data', ['', ''], [*facts.items()])]
    )


def _overview(result: Mapping[str, Any], scored: Sequence[Scores]) -> Section:
    rows, whiskers = [], []
    for scores in scored:
        for metric in HEADLINES:
            name = f'{scores.split}/{metric}'
            if name in result:
                value, low, high = _interval(result, name)
                rows.append([scores.split, metric, value, low, high, result[f'{name}/n']])
                whiskers.append((f'{metric}, {scores.split}', value, low, high))
    unit = result['task/unit']
    rule = {
        'cases': 'Image scores are averaged to cases.',
        'images': 'Images are judged one by one: where a rule speaks of cases, an image is one.',
    }[unit]
    return Section(
        'Figures',
        f'{rule} {INTERVAL_RULE} {MACRO_RULE}',
        [Table('By split', ['split', 'metric', 'value', 'low', 'high', unit], rows)],
        [Picture('95% intervals', pictures.intervals(whiskers, 'value'))],
    )


def _split(scores: Scores, task: Task, result: Mapping[str, Any]) -> Section:
    targets = scores.targets if task.multilabel else np.eye(len(task.classes))[scores.targets]
    rows, lines = [], {}
    for name, target, score in zip(task.classes, targets.T, scores.probabilities.T):
        metrics = [f'{scores.split}/{metric}/{name}' for metric in BY_CLASS]
        if metrics[0] in result:
            known = ~np.isnan(target)
            lines[name] = roc_curve(target[known], score[known])[:2]
            positives = int(np.nansum(target))
            rows.append([name, positives, *(_written(result, each) for each in metrics)])
    shown = [Picture('ROC, each class against the rest', pictures.roc(lines))] if lines else []
    if not task.multilabel:
        classes, predicted = np.arange(len(task.classes)), scores.probabilities.argmax(axis=1)
        matrix = confusion_matrix(scores.targets, predicted, labels=classes)
        curve = calibration.reliability(scores.targets, scores.probabilities)
        drawn = pictures.reliability(curve.confidence, curve.accuracy, curve.count)
        shown += [
            Picture('Confusion', pictures.confusion(matrix, task.classes)),
            Picture('Reliability', drawn),
        ]
    tables = [Table('By class', ['class', 'positives', *BY_CLASS.values()], rows)]
    if calibrated := _calibrated(scores.split, task, result):
        header = ['class'] if task.multilabel else []
        tables.append(Table('Calibration', [*header, *CALIBRATION.values()], calibrated))
    if groups := _subgroups(scores.split, result):
        tables.append(
            Table('By subgroup', ['group', result['task/unit'], *HEADLINES_OF_GROUPS], groups)
        )
    return Section(
        f'Split {scores.split}',
        'Sensitivity and specificity at the threshold that gives 90% specificity on validation. '
        f'{MACRO_RULE}' + (f' {calibration_rule(task)}' if calibrated else ''),
        tables,
        shown,
    )


def _calibrated(split: str, task: Task, result: Mapping[str, Any]) -> list[list[Any]]:
    """One row; where a case may have several labels, one for each class that has the figures."""
    places = {name: f'/{name}' for name in task.classes} if task.multilabel else {'': ''}
    return [
        [*filter(None, [name]), *(result[f'{split}/{metric}{place}'] for metric in CALIBRATION)]
        for name, place in places.items()
        if f'{split}/brier_score{place}' in result
    ]


def _subgroups(split: str, result: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each `SPLIT/n_cases@COLUMN=VALUE`."""
    start = f'{split}/n_cases@'
    names = [name.removeprefix(start) for name in result if name.startswith(start)]
    return [
        [name, result[start + name]]
        + [_written(result, f'{split}/{metric}@{name}') for metric in HEADLINES_OF_GROUPS]
        for name in names
    ]


def _interval(result: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    return result[name], result.get(f'{name}/low', np.nan), result.get(f'{name}/high', np.nan)


def _written(result: Mapping[str, Any], name: str) -> str:
    if name not in result:
        return '–'
    value, low, high = _interval(result, name)
    return f'{value:.3f}' + ('' if np.isnan(low) else f' [{low:.3f}, {high:.3f}]')
