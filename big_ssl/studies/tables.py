"""The figures of a study as tidy tables, made from the predictions of its runs.

Each table has one row a figure, so that it can be drawn, written as CSV and recomputed.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
from etils import epath
from ml_collections import ConfigDict

from big_ssl.evaluation import comparison, permutation, seeds
from big_ssl.evaluation.comparison import Metric
from big_ssl.studies import class_tables, measure
from big_ssl.studies.measure import Groups
from big_ssl.studies.results import Group

COMMON = 'auc_macro_common'
PERMUTATIONS = 1000
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
    calibration: pd.DataFrame
    by_subgroup: pd.DataFrame
    search: pd.DataFrame


def tables_of(config: ConfigDict, groups: Groups, tried: pd.DataFrame, study: epath.Path) -> Tables:
    """Computes them all.

    Args:
      tried: `search.trials`.
    """
    several = len(config.label_fractions) > 1
    differences, needed = labels_needed(config, groups) if several else (pd.DataFrame(), {})
    shifted, frequencies = class_tables.shift(config, groups)
    return Tables(
        summaries=summaries(groups),
        single_runs=single_runs(groups),
        comparisons=comparisons(config, groups),
        label_differences=differences,
        labels_needed=needed,
        shift=shifted,
        frequencies=frequencies,
        by_class=class_tables.by_class(groups),
        operating_points=class_tables.operating_points(groups, study),
        calibration=class_tables.calibration_figures(groups),
        by_subgroup=class_tables.by_subgroup(config, groups, study),
        search=tried,
    )


def summaries(groups: Groups) -> pd.DataFrame:
    """Every group on every split: mean, interval, and the spread of its runs.

    Columns: split, method (with the network where there are several), fraction, whole (it is the
    largest of the study), metric, value, low, high, sd_pretraining, sd_finetuning (draws of labels
    included), pretrainings, runs, cases, covers_pretraining.
    """
    rows = []
    for split, some in groups.items():
        for group in some:
            first = group.models[0]
            for name, metric in measure.metrics_of(first.task, first.targets).items():
                known = {key: getattr(group, key) for key in ('fraction', 'whole')}
                rows.append(
                    {'split': split, 'method': group.name} | known | _summary(group, name, metric)
                )
    least = ['split', 'method', 'fraction', 'whole', 'metric', 'value']
    return pd.DataFrame(rows, columns=None if rows else least)


def single_runs(groups: Groups) -> pd.DataFrame:
    """Columns: split, method, fraction, whole, metric, run, seed, finetuning, draw, value."""
    rows = []
    for split, group in measure.each(groups):
        first = group.models[0]
        for name, metric in measure.metrics_of(first.task, first.targets).items():
            values = [measure.value_of(model, metric) for model in group.models]
            for model, value in zip(group.models, values):
                rows.append(
                    {
                        'split': split,
                        'method': group.name,
                        'fraction': group.fraction,
                        'whole': group.whole,
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
        whole = [group for group in some if group.whole]
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
    for network in dict.fromkeys(group.network for group in some):
        of_network = [group for group in some if group.network == network]
        baseline = [g for g in of_network if config.baseline == g.method and g.whole]
        if not baseline:
            continue
        first = baseline[0].models[0]
        metric = measure.metrics_of(first.task, first.targets).get(config.compared[0])
        if metric is None:
            continue
        lows: dict[str, dict[float, float]] = {}
        for group in of_network:
            if group is not baseline[0]:
                found = measure.difference(group, baseline[0], metric)
                lows.setdefault(group.name, {})[group.fraction] = found.low
                rows.append(
                    {
                        'method': group.name,
                        'fraction': group.fraction,
                        'difference': found.value,
                        'low': found.low,
                        'high': found.high,
                    }
                )
        for name, by_fraction in lows.items():
            fraction = comparison.labels_needed(
                list(by_fraction), list(by_fraction.values()), config.margin
            )
            if fraction is not None:
                needed[name] = fraction
    return pd.DataFrame(rows), needed


def _pairs(config: ConfigDict, methods: Sequence[str]) -> list[tuple[str, str]]:
    against = [(name, config.baseline) for name in dict.fromkeys(methods)]
    pairs = [pair for pair in against if config.baseline and pair[0] != config.baseline]
    for pair in config.comparisons:
        if pair not in pairs and pair[::-1] not in pairs:
            pairs.append(pair)
    return pairs


def _differences(config: ConfigDict, split: str, a: Group, b: Group) -> Iterator[dict]:
    known = measure.metrics_of(a.models[0].task, a.models[0].targets)
    for name in config.compared:
        if name not in known:
            continue
        found = measure.difference(a, b, known[name])
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
                measure.codes(a.models[0].patients),
                known[name],
                permutations=PERMUTATIONS,
            ),
            'covers_pretraining': found.covers_pretraining,
        }


def _summary(group: Group, name: str, metric: Metric) -> dict:
    spread = seeds.spread(
        [measure.value_of(model, metric) for model in group.models], group.pretraining
    )
    found = measure.interval(group, metric)
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
        'unit': group.models[0].unit,
        'covers_pretraining': found.covers_pretraining,
    }
