"""The figures of a study as tidy tables, made from the predictions of its runs.

Each table has one row a figure, so that it can be drawn, written as CSV and recomputed.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict

from big_ssl.data.labels import Task
from big_ssl.evaluation import (
    calibration,
    class_frequencies,
    comparison,
    permutation,
    seeds,
    subgroups,
)
from big_ssl.evaluation.comparison import Metric
from big_ssl.studies import design
from big_ssl.studies.results import ELSEWHERE, Group, Judged, read_result
from big_ssl.studies.run import DONE, HAS_DIVERGED, Run

Groups = Mapping[str, Sequence[Group]]
REPLICATES, SEED = 1000, 0
COMMON = 'auc_macro_common'
NAMES = {
    'auc_macro': 'macro AUC',
    'top1': 'top-1 accuracy',
    'balanced_accuracy': 'balanced accuracy',
    COMMON: 'macro AUC, common classes',
}


@dataclasses.dataclass(frozen=True)
class Tables:
    """All tables of a study; each is empty where the study has nothing of the kind."""

    summaries: pd.DataFrame
    single_runs: pd.DataFrame
    comparisons: pd.DataFrame
    label_differences: pd.DataFrame
    labels_needed: Mapping[str, float]
    shift: pd.DataFrame
    frequencies: pd.DataFrame
    by_class: pd.DataFrame
    operating_points: pd.DataFrame
    by_subgroup: pd.DataFrame
    search: pd.DataFrame


def tables_of(
    config: ConfigDict,
    runs: Sequence[Run],
    states: Mapping[str, str],
    study: epath.Path,
    groups: Groups,
) -> Tables:
    """Computes them all."""
    several = len(config.label_fractions) > 1
    differences, needed = labels_needed(config, groups) if several else (pd.DataFrame(), {})
    shifted, frequencies = shift(config, groups)
    return Tables(
        summaries=summaries(groups),
        single_runs=single_runs(groups),
        comparisons=comparisons(config, groups),
        label_differences=differences,
        labels_needed=needed,
        shift=shifted,
        frequencies=frequencies,
        by_class=by_class(groups),
        operating_points=operating_points(groups, study),
        by_subgroup=by_subgroup(config, groups),
        search=search(runs, states, study),
    )


def metrics_of(task: Task, targets: np.ndarray) -> dict[str, Metric]:
    """The figures of one split; the macro AUC is over classes with enough positives there."""
    found: dict[str, Metric] = {}
    if not task.multilabel:
        found |= {'top1': comparison.top1, 'balanced_accuracy': comparison.balanced_accuracy}
    classes = class_frequencies.counted_classes(targets, len(task.classes))
    if classes:
        found['auc_macro'] = comparison.macro_auc(classes)
    return found


def summaries(groups: Groups) -> pd.DataFrame:
    """Every group on every split: mean, interval, and the spread of its runs.

    Columns: split, method (with the network where there are several), fraction, metric, value, low,
    high, sd_pretraining, sd_finetuning, pretrainings, runs, cases, covers_pretraining.
    """
    rows = []
    for split, some in groups.items():
        for group in some:
            first = group.models[0]
            for name, metric in metrics_of(first.task, first.targets).items():
                rows.append(
                    {'split': split, 'method': group.name, 'fraction': group.fraction}
                    | _summary(group, name, metric)
                )
    return pd.DataFrame(rows)


def single_runs(groups: Groups) -> pd.DataFrame:
    """Columns: split, method, fraction, metric, run, seed, finetuning, draw, value."""
    rows = []
    for split, group in _each(groups):
        first = group.models[0]
        for name, metric in metrics_of(first.task, first.targets).items():
            values = [_value(model, metric) for model in group.models]
            for model, value in zip(group.models, values):
                rows.append(
                    {
                        'split': split,
                        'method': group.name,
                        'fraction': group.fraction,
                        'metric': name,
                        'run': model.run.name,
                        **{key: model.run.facts[key] for key in ('seed', 'finetuning', 'draw')},
                        'value': value,
                    }
                )
    return pd.DataFrame(rows)


def comparisons(config: ConfigDict, groups: Groups) -> pd.DataFrame:
    """Paired differences: each method against the baseline, and the further pairs of the study.

    Columns: split, metric, method, against, difference, low, high, p, p_holm (over all rows),
    p_permutation (of the first seeds' models, seeds left out of account), covers_pretraining.
    """
    rows: list[dict] = []
    for split, some in groups.items():
        whole = [group for group in some if group.fraction == 1.0]
        by_name = {(group.method, group.network): group for group in whole}
        for network in dict.fromkeys(group.network for group in whole):
            for method, other in _pairs(config, [group.method for group in whole]):
                a, b = by_name.get((method, network)), by_name.get((other, network))
                if a is not None and b is not None:
                    rows += _differences(config, split, a, b)
    table = pd.DataFrame(rows)
    if len(table):
        table.insert(list(table).index('p') + 1, 'p_holm', comparison.holm(table['p'].to_numpy()))
    return table


def labels_needed(config: ConfigDict, groups: Groups) -> tuple[pd.DataFrame, dict[str, float]]:
    """Each method at each fraction against the baseline with all labels; and the fraction needed.

    Columns of the table: method, fraction, difference, low, high. A method that never excludes a
    loss above the margin is missing from the dictionary.
    """
    rows, needed = [], {}
    some = groups.get(config.in_distribution, [])
    metric_name = config.compared[0]
    for network in dict.fromkeys(group.network for group in some):
        of_network = [group for group in some if group.network == network]
        baseline = [g for g in of_network if g.method == config.baseline and g.fraction == 1.0]
        if not baseline:
            continue
        metric = metrics_of(baseline[0].models[0].task, baseline[0].models[0].targets)[metric_name]
        for method in dict.fromkeys(group.method for group in of_network):
            lows = {}
            for group in of_network:
                if group.method == method and group is not baseline[0]:
                    found = _difference(group, baseline[0], metric)
                    lows[group.fraction] = found.low
                    rows.append(
                        {
                            'method': group.name,
                            'fraction': group.fraction,
                            'difference': found.value,
                            'low': found.low,
                            'high': found.high,
                        }
                    )
                    name = group.name
            fraction = comparison.labels_needed(
                list(lows), [lows[each] for each in lows], config.margin
            )
            if fraction is not None:
                needed[name] = fraction
    return pd.DataFrame(rows), needed


def shift(config: ConfigDict, groups: Groups) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Macro AUC over the classes common to both, here and at another clinic; class frequencies.

    Columns: method, split, value, low, high; class, split, share, count, common. Both are empty
    where the study has no other clinic.
    """
    there = next((name for name in (config.shift, ELSEWHERE) if name in groups), '')
    if not there or config.in_distribution not in groups:
        return pd.DataFrame(), pd.DataFrame()
    pair = (config.in_distribution, there)
    first = [groups[split][0].models[0] for split in pair]
    classes = first[0].task.classes
    targets = [model.targets for model in first]
    common = class_frequencies.common_classes(targets[0], targets[1], len(classes))
    rows = []
    if common:
        metric = comparison.macro_auc(common)
        for split, group in itertools.product(pair, range(len(groups[pair[0]]))):
            some = [each for each in groups[split] if each.fraction == 1.0]
            if group < len(some):
                found = _interval(some[group], metric)
                rows.append(
                    {
                        'method': some[group].name,
                        'split': split,
                        'value': found.value,
                        'low': found.low,
                        'high': found.high,
                    }
                )
    frequencies = [
        {'class': name, 'split': split, 'share': share, 'count': count, 'common': i in common}
        for split, labels in zip(pair, targets)
        for i, (name, share, count) in enumerate(
            zip(
                classes,
                class_frequencies.shares(labels, len(classes)),
                class_frequencies.positives(labels, len(classes)),
            )
        )
    ]
    return pd.DataFrame(rows), pd.DataFrame(frequencies)


def by_class(groups: Groups) -> pd.DataFrame:
    """Columns: split, method, class, positives, value (AUC), low, high; all labels only."""
    rows = []
    for split, group in _each(groups):
        if group.fraction < 1:
            continue
        first = group.models[0]
        for i, name in enumerate(first.task.classes):
            positives = int(np.nansum(_positive(first, i)))
            found = _interval(group, comparison.auc_of(i))
            if not np.isnan(found.value):
                rows.append(
                    {
                        'split': split,
                        'method': group.name,
                        'class': name,
                        'positives': positives,
                        'value': found.value,
                        'low': found.low,
                        'high': found.high,
                    }
                )
    return pd.DataFrame(rows)


def operating_points(groups: Groups, study: epath.Path) -> pd.DataFrame:
    """Sensitivity and specificity at the threshold that a first seed's run chose on validation.

    Columns: split, method, class, metric, value, low, high; all labels only.
    """
    rows = []
    for split, group in _each(groups):
        model = group.models[0]
        result = read_result(model.run, study) if group.fraction == 1.0 else {}
        place = model.table['split'].iloc[0]
        for metric, name in itertools.product(('sensitivity', 'specificity'), model.task.classes):
            key = f'{place}/{metric}_at_val_threshold/{name}'
            if key in result:
                ends = {end: result.get(f'{key}/{end}', np.nan) for end in ('low', 'high')}
                known = {'split': split, 'method': group.name, 'class': name, 'metric': metric}
                rows.append({**known, 'value': result[key], **ends})
    return pd.DataFrame(rows)


def by_subgroup(config: ConfigDict, groups: Groups) -> pd.DataFrame:
    """Columns: split, method, column, group, n, metric, value, low, high; all labels only."""
    rows = []
    for column, (split, group) in itertools.product(config.subgroups, _each(groups)):
        first = group.models[0]
        if group.fraction < 1 or column not in first.table:
            continue
        names = subgroups.groups(
            first.table[column].astype(str).to_numpy(), tuple(config.every.subgroup_edges)
        )
        for name in subgroups.ordered(names):
            part = _restricted(group, names == name)
            for metric_name, metric in metrics_of(first.task, part.models[0].targets).items():
                found = _interval(part, metric)
                rows.append(
                    {
                        'split': split,
                        'method': group.name,
                        'column': column,
                        'group': name,
                        'n': int((names == name).sum()),
                        'metric': metric_name,
                        'value': found.value,
                        'low': found.low,
                        'high': found.high,
                    }
                )
    return pd.DataFrame(rows)


def roc(groups: Sequence[Group]) -> pd.DataFrame:
    """Of first seeds, frequent classes first.

    Columns: class, method, false_positive_rate, true_positive_rate.
    """
    from sklearn.metrics import roc_curve

    parts = []
    for group in groups:
        model = group.models[0]
        counts = class_frequencies.positives(model.targets, len(model.task.classes))
        for i in np.argsort(-counts, kind='stable'):
            name = model.task.classes[i]
            positive, score = _positive(model, i), model.probabilities[:, i]
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
                name: calibration.binary_reliability(_positive(model, i), model.probabilities[:, i])
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
    return pd.concat(parts)


def search(runs: Sequence[Run], states: Mapping[str, str], study: epath.Path) -> pd.DataFrame:
    """Columns: method, learning_rate, weight_decay, value (macro AUC on validation), diverged."""
    rows = [
        {
            'method': run.facts['method'],
            'learning_rate': run.facts['learning_rate'],
            'weight_decay': run.facts['weight_decay'],
            'value': (
                read_result(run, study).get('val/auc_macro_all', np.nan)
                if states[run.name] == DONE
                else np.nan
            ),
            'diverged': states[run.name] == HAS_DIVERGED,
        }
        for run in runs
        if run.facts['role'] == design.FINETUNING and run.facts['learning_rate'] is not None
    ]
    if not rows:
        return pd.DataFrame()
    keys = ['method', 'learning_rate', 'weight_decay']
    return (
        pd.DataFrame(rows)
        .groupby(keys, sort=False)
        .agg(value=('value', 'mean'), diverged=('diverged', 'any'))
        .reset_index()
    )


def _pairs(config: ConfigDict, methods: Sequence[str]) -> list[tuple[str, str]]:
    against = [(name, config.baseline) for name in dict.fromkeys(methods)]
    pairs = [pair for pair in against if config.baseline and pair[0] != config.baseline]
    return list(dict.fromkeys([*pairs, *(tuple(pair) for pair in config.comparisons)]))


def _differences(config: ConfigDict, split: str, a: Group, b: Group) -> Iterator[dict]:
    known = metrics_of(a.models[0].task, a.models[0].targets)
    for name in config.compared:
        if name not in known:
            continue
        found = _difference(a, b, known[name])
        yield {
            'split': split,
            'metric': name,
            'method': a.name,
            'against': b.name,
            'difference': found.value,
            'low': found.low,
            'high': found.high,
            'p': found.p,
            'p_permutation': permutation.permutation_p(
                a.models[0].targets,
                a.models[0].probabilities,
                b.models[0].probabilities,
                _codes(a.models[0].patients),
                known[name],
                permutations=REPLICATES,
                seed=SEED,
            ),
            'covers_pretraining': found.covers_pretraining,
        }


def _difference(a: Group, b: Group, metric: Metric) -> comparison.Difference:
    return comparison.paired_difference(
        a.models[0].targets,
        a.scores,
        b.scores,
        _codes(a.models[0].patients),
        metric,
        pretraining_a=a.pretraining,
        pretraining_b=b.pretraining,
        replicates=REPLICATES,
        seed=SEED,
    )


def _interval(group: Group, metric: Metric) -> comparison.Interval:
    return comparison.method_interval(
        group.models[0].targets,
        group.scores,
        _codes(group.models[0].patients),
        metric,
        pretraining=group.pretraining,
        replicates=REPLICATES,
        seed=SEED,
    )


def _summary(group: Group, name: str, metric: Metric) -> dict:
    spread = seeds.spread([_value(model, metric) for model in group.models], group.pretraining)
    found = _interval(group, metric)
    return {
        'metric': name,
        'value': spread.mean,
        'low': found.low,
        'high': found.high,
        'sd_pretraining': spread.sd_pretraining,
        'sd_finetuning': spread.sd_finetuning,
        'pretrainings': spread.n_pretrainings,
        'runs': spread.n_runs,
        'cases': len(group.models[0].targets),
        'covers_pretraining': found.covers_pretraining,
    }


def _value(model: Judged, metric: Metric) -> float:
    once = np.ones((1, len(model.targets)), np.int32)
    return float(metric(model.targets, model.probabilities, once)[0])


def _positive(model: Judged, i: int) -> np.ndarray:
    """1, 0 or NaN for each case: whether it is of class i."""
    return model.targets[:, i] if model.task.multilabel else (model.targets == i).astype(float)


def _codes(names: np.ndarray) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def _each(groups: Groups) -> Iterator[tuple[str, Group]]:
    return ((split, group) for split, some in groups.items() for group in some)


def _restricted(group: Group, chosen: np.ndarray) -> Group:
    models = tuple(
        Judged(
            model.run,
            model.split,
            model.task,
            model.targets[chosen],
            model.probabilities[chosen],
            model.patients[chosen],
            model.table[chosen],
        )
        for model in group.models
    )
    return Group(group.method, group.network, group.fraction, models)
