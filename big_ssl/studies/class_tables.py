"""Tidy tables on classes, groups of patients and another clinic."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict
from sklearn.metrics import roc_curve

from big_ssl.evaluation import calibration, class_frequencies, comparison, seeds, subgroups
from big_ssl.studies import measure
from big_ssl.studies.measure import Groups
from big_ssl.studies.results import Group, read_result


def shift(config: ConfigDict, groups: Groups) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Macro AUC over the classes common to both, here and at another clinic; class frequencies.

    Columns: clinic (the split or table there), method, split, value, low, high; clinic, class,
    split, share, count, common. Both are empty where the study has no other clinic.
    """
    here = config.in_distribution
    shifted: list[dict] = []
    frequencies: list[dict] = []
    for there in [split for split in groups if here in groups and split != here]:
        of_methods, of_classes = _shift(groups, (here, there))
        shifted += of_methods
        frequencies += of_classes
    return pd.DataFrame(shifted), pd.DataFrame(frequencies)


def _shift(groups: Groups, pair: tuple[str, str]) -> tuple[list[dict], list[dict]]:
    first = [groups[split][0].models[0] for split in pair]
    classes = first[0].task.classes
    targets = [model.targets for model in first]
    common = class_frequencies.common_classes(targets[0], targets[1], len(classes))
    rows = []
    if common:
        metric = comparison.macro_auc(common)
        rows = [
            {
                'clinic': pair[1],
                'method': group.name,
                'split': split,
                **measure.row_of(measure.interval(group, metric)),
            }
            for split in pair
            for group in groups[split]
            if group.whole
        ]
    frequencies = [
        {
            'clinic': pair[1],
            'class': name,
            'split': split,
            'share': share,
            'count': count,
            'common': i in common,
        }
        for split, labels in zip(pair, targets)
        for i, (name, share, count) in enumerate(
            zip(
                classes,
                class_frequencies.shares(labels, len(classes)),
                class_frequencies.positives(labels, len(classes)),
            )
        )
    ]
    return rows, frequencies


def by_class(groups: Groups) -> pd.DataFrame:
    """Columns: split, method, class, positives, value (AUC), low, high; whole groups only."""
    rows = []
    for split, group in measure.whole(groups):
        first = group.models[0]
        for i, name in enumerate(first.task.classes):
            positives = int(np.nansum(measure.positive(first, i)))
            found = measure.interval(group, comparison.auc_of(i))
            if not np.isnan(found.value):
                rows.append(
                    {
                        'split': split,
                        'method': group.name,
                        'class': name,
                        'positives': positives,
                        **measure.row_of(found),
                    }
                )
    columns = ['split', 'method', 'class', 'positives', 'value', 'low', 'high']
    return pd.DataFrame(rows, columns=columns)


def operating_points(groups: Groups, study: epath.Path) -> pd.DataFrame:
    """Sensitivity and specificity at the threshold that a first seed's run chose on validation.

    Columns: split, method, class, metric, value, low, high; whole groups only.
    """
    rows = []
    for split, group in measure.whole(groups):
        model = group.models[0]
        result = read_result(model.run, study)
        place = model.table['split'].iloc[0]
        for metric, name in itertools.product(('sensitivity', 'specificity'), model.task.classes):
            key = f'{place}/{metric}_at_val_threshold/{name}'
            if key in result:
                ends = {end: result.get(f'{key}/{end}', np.nan) for end in ('low', 'high')}
                known = {'split': split, 'method': group.name, 'class': name, 'metric': metric}
                rows.append({**known, 'value': result[key], **ends})
    return pd.DataFrame(rows)


def calibration_figures(groups: Groups) -> pd.DataFrame:
    """Expected calibration error and Brier score; whole groups only.

    Columns: split, method, metric (calibration_error or brier_score), class ('': all together),
    value and sd (mean and deviation over pre-trainings).
    """
    rows = []
    for split, group in measure.whole(groups):
        of_models = [measure.calibration_of(model) for model in group.models]
        for metric, name in of_models[0]:
            values = np.array([found[metric, name] for found in of_models])
            over = seeds.spread(values, group.pretraining)
            known = {'split': split, 'method': group.name, 'metric': metric, 'class': name}
            rows.append({**known, 'value': over.mean, 'sd': over.sd_pretraining})
    return pd.DataFrame(rows, columns=['split', 'method', 'metric', 'class', 'value', 'sd'])


def by_subgroup(config: ConfigDict, groups: Groups, study: epath.Path) -> pd.DataFrame:
    """The compared figures of each group of patients; whole groups only.

    Columns: split, method, column, group, n, metric, value, low, high.
    """
    rows = []
    for column, (split, group) in itertools.product(config.subgroups, measure.whole(groups)):
        first = group.models[0]
        renamed = f'manifest_{column}'  # of a column with the name of one of ours
        place = renamed if renamed in first.table else column
        if place not in first.table:
            continue
        edges = tuple(first.run.check(study).config.subgroup_edges)
        names = subgroups.groups(first.table[place].to_list(), edges)
        for name in subgroups.ordered(names):
            part = _restricted(group, names == name)
            metrics = measure.metrics_of(first.task, part.models[0].targets)
            rows += [
                {
                    'split': split,
                    'method': group.name,
                    'column': column,
                    'group': name,
                    'n': int((names == name).sum()),
                    'metric': metric,
                    **measure.row_of(measure.interval(part, metrics[metric])),
                }
                for metric in config.compared
                if metric in metrics
            ]
    return pd.DataFrame(rows)


def roc(groups: Sequence[Group]) -> pd.DataFrame:
    """Of first seeds, frequent classes first.

    Columns: class, method, false_positive_rate, true_positive_rate.
    """
    parts = []
    for group in groups:
        model = group.models[0]
        counts = class_frequencies.positives(model.targets, len(model.task.classes))
        for i in np.argsort(-counts, kind='stable'):
            name = model.task.classes[i]
            positive, score = measure.positive(model, i), model.probabilities[:, i]
            known = ~np.isnan(positive)
            if 0 < positive[known].sum() < known.sum():
                false, true, _ = roc_curve(positive[known], score[known])
                parts.append(
                    pd.DataFrame(
                        {
                            'class': name,
                            'method': group.name,
                            'false_positive_rate': false,
                            'true_positive_rate': true,
                        }
                    )
                )
    return pd.concat(parts) if parts else pd.DataFrame()


def reliability(groups: Sequence[Group]) -> pd.DataFrame:
    """Of first seeds; columns: method, confidence, accuracy, count, and class if multi-label."""
    parts = []
    for group in groups:
        model = group.models[0]
        if model.task.multilabel:
            curves = {
                name: calibration.binary_reliability(
                    measure.positive(model, i), model.probabilities[:, i]
                )
                for i, name in enumerate(model.task.classes)
            }
        else:
            curves = {'': calibration.reliability(model.targets, model.probabilities)}
        for name, curve in curves.items():
            part = pd.DataFrame(
                {
                    'method': group.name,
                    'confidence': curve.confidence,
                    'accuracy': curve.accuracy,
                    'count': curve.count,
                }
            )
            parts.append(part.assign(**{'class': name}) if name else part)
    return pd.concat(parts) if parts else pd.DataFrame()


def _restricted(group: Group, chosen: np.ndarray) -> Group:
    models = tuple(
        dataclasses.replace(
            model,
            targets=model.targets[chosen],
            probabilities=model.probabilities[chosen],
            patients=model.patients[chosen],
            table=model.table[chosen],
        )
        for model in group.models
    )
    return dataclasses.replace(group, models=models)
