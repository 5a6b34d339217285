"""The sections of a study's report."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict
from sklearn.metrics import confusion_matrix

from big_ssl.evaluation import embedding_map
from big_ssl.report import comparisons, multiples, pictures
from big_ssl.report import design as design_pictures
from big_ssl.report.page import Picture, Section, Table
from big_ssl.studies import design, tables
from big_ssl.studies.results import Group, read_result
from big_ssl.studies.run import DONE, Run
from big_ssl.studies.tables import NAMES, Groups, Tables
from big_ssl.tasks.pages import FINETUNING_CURVES, PRETRAINING_CURVES, SYNTHETIC
from big_ssl.train.writers import read_metrics

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-cpu', 'numpy', 'scikit-learn')
METHODS_TEXT = (
    'A method is judged over its seeds: each seed is a chain of its own, pre-training included. '
    'Several fine-tunings of one pre-training are averaged first; they are no replicates of the '
    'method. Values are means over seeds; "sd" is the deviation between seeds and between '
    'fine-tunings of one pre-training.\n\n'
    'Intervals (95%) resample patients (cases where no patient is known) and seeds together. '
    'Where a method has one seed only they cannot hold the variation of pre-training, and say so.'
)
MACRO_TEXT = (
    'Macro AUC: unweighted mean over classes with at least 10 positive cases in the split, each '
    'against the rest; rarer classes are shown below and left out of the mean.'
)


def highlights(
    config: ConfigDict, states: Mapping[str, str], known: Tables
) -> list[tuple[str, str]]:
    """What stands on top: label and value."""
    done = sum(state == DONE for state in states.values())
    found = [('runs', f'{done} of {len(states)} done')]
    for split in dict.fromkeys(known.summaries.get('split', [])):
        for metric in config.compared[:1]:
            rows = known.summaries[
                (known.summaries['split'] == split)
                & (known.summaries['metric'] == metric)
                & (known.summaries['fraction'] == 1.0)
            ]
            if len(rows):
                best = rows.loc[rows['value'].idxmax()]
                found.append(
                    (
                        f'highest {NAMES[metric]}, {split}',
                        f'{best["method"]}: {_written(best["value"], best["low"], best["high"])}',
                    )
                )
    if len(known.comparisons):
        clear = int((known.comparisons['p_holm'] < 0.05).sum())
        found.append(
            ('differences with p < 0.05 after Holm', f'{clear} of {len(known.comparisons)}')
        )
    for name, fraction in known.labels_needed.items():
        found.append((f'labels needed, {name}', f'{fraction:.0%}'))
    return found


def sections(
    config: ConfigDict,
    runs: Sequence[Run],
    states: Mapping[str, str],
    study: epath.Path,
    groups: Groups,
    known: Tables,
    command: Sequence[str],
) -> list[Section]:
    """All sections, those with nothing to show left out."""
    done = [run for run in runs if states[run.name] == DONE]
    found = [
        _overview(config, known),
        _differences(known),
        _labels(config, known),
        _shift(known),
        _search(known),
        *(_split(split, list(some), known) for split, some in groups.items()),
        _subgroups(known),
        _embeddings(config, done, study, groups),
        _pairs(done, study),
        _curves(done, study),
        _made_with(config, runs, states, study, command),
    ]
    kept = [section for section in found if section is not None]
    if kept and _synthetic(done, study):
        kept.insert(0, Section('SYNTHETIC data', SYNTHETIC))
    return kept


def _overview(config: ConfigDict, known: Tables) -> Section | None:
    table = known.summaries
    if not len(table):
        return None
    whole = table[table['fraction'] == 1.0]
    shown = whole if len(whole) else table
    rows = [
        [
            row.split,
            row.method,
            NAMES[row.metric],
            _written(row.value, row.low, row.high) + ('' if row.covers_pretraining else ' *'),
            _sd(row.sd_pretraining),
            _sd(row.sd_finetuning),
            row.pretrainings,
            row.runs,
            row.cases,
        ]
        for row in shown.itertuples()
    ]
    header = [
        'split', 'method', 'figure', 'mean [95%]', 'sd seeds', 'sd fine-tunings', 'seeds', 'runs',
        'cases',
    ]  # fmt: skip
    drawn = []
    singles = known.single_runs
    for metric in [name for name in NAMES if name in set(shown['metric'])]:
        summary = shown[shown['metric'] == metric]
        single = singles[(singles['metric'] == metric) & (singles['fraction'] == 1.0)]
        points = pd.concat([summary, single])[['split', 'method', 'value', 'low', 'high', 'run']]
        drawn.append(
            Picture(
                NAMES[metric],
                comparisons.by_split(points, NAMES[metric]),
                data=points,
                name=f'comparison_{metric}',
            )
        )
    text = f'{METHODS_TEXT}\n\n{MACRO_TEXT}'
    if not shown['covers_pretraining'].all():
        text += '\n\n* one seed: the interval does not hold the variation of pre-training.'
    return Section('Comparison', text, [Table('Means over seeds', header, rows)], drawn)


def _differences(known: Tables) -> Section | None:
    table = known.comparisons
    if not len(table):
        return None
    rows = [
        [
            row.split,
            NAMES[row.metric],
            f'{row.method} − {row.against}',
            _written(row.difference, row.low, row.high, '+'),
            row.p,
            row.p_holm,
        ]
        for row in table.itertuples()
    ]
    drawn = []
    for (split, metric), part in table.groupby(['split', 'metric'], sort=False):
        points = part.assign(name=part['method'] + ' − ' + part['against'], p=part['p_holm'])
        points = points[['name', 'difference', 'low', 'high', 'p']]
        label = f'difference of {NAMES[metric]}, {split}'
        drawn.append(
            Picture(
                label,
                comparisons.differences(points, label),
                data=points,
                name=f'differences_{split}_{metric}',
            )
        )
    return Section(
        'Differences',
        'Paired: both methods on the same resampled patients, their seeds resampled with them. '
        'p is two-sided and goes with the interval; the last column is corrected by Holm over all '
        f'{len(table)} comparisons of this study.',
        [Table('Paired differences', ['split', 'figure', 'methods', 'difference [95%]', 'p',
                                      'p (Holm)'], rows)],
        drawn,
    )  # fmt: skip


def _labels(config: ConfigDict, known: Tables) -> Section | None:
    if not len(known.label_differences):
        return None
    metric = config.compared[0]
    points = known.summaries[
        (known.summaries['split'] == config.in_distribution) & (known.summaries['metric'] == metric)
    ][['method', 'fraction', 'value', 'low', 'high']]
    rows = [
        [row.method, f'{row.fraction:.0%}', _written(row.difference, row.low, row.high, '+')]
        for row in known.label_differences.itertuples()
    ]
    needed = [[name, f'{share:.0%}'] for name, share in known.labels_needed.items()]
    return Section(
        'Label efficiency',
        'Fractions are of patients (cases where no patient is known), drawn '
        f'{len(config.label_draws)} time(s), stratified with at least one case a class, each '
        'within the next larger one; validation is '
        f'{"reduced alike" if config.finetune.labels.val == "alike" else "used in full"}; every '
        'fine-tuning has as many steps.\n\nLabels needed: the smallest fraction whose paired '
        f'interval against {config.baseline} with all labels excludes a loss of more than '
        f'{config.margin:g}.',
        [
            Table('Labels needed', ['method', 'share of the labels'], needed),
            Table(
                f'Against {config.baseline} with all labels',
                ['method', 'labels', f'difference of {NAMES[metric]} [95%]'],
                rows,
            ),
        ],
        [
            Picture(
                f'{NAMES[metric]} by labels',
                comparisons.label_efficiency(points, NAMES[metric], config.baseline),
                data=points,
                name='label_efficiency',
            )
        ],
    )


def _shift(known: Tables) -> Section | None:
    if not len(known.frequencies):
        return None
    common = known.frequencies[known.frequencies['common']]['class'].unique()
    drawn = [
        Picture(
            'How often each class is seen',
            design_pictures.class_frequencies(known.frequencies),
            data=known.frequencies,
            name='class_frequencies',
        )
    ]
    if len(known.shift):
        drawn.insert(
            0,
            Picture(
                NAMES[tables.COMMON],
                comparisons.shift(known.shift, NAMES[tables.COMMON]),
                data=known.shift,
                name='shift',
            ),
        )
    rows = [
        [row.method, row.split, _written(row.value, row.low, row.high)]
        for row in known.shift.itertuples()
    ]
    return Section(
        'Another clinic',
        'No weight was trained or picked on the other clinic. Macro AUC over the classes that have '
        f'at least 10 positive cases in both: {", ".join(common) or "none"}. Top-1 accuracy moves '
        'with the frequencies of the classes, drawn below; the AUC of a class does not.',
        [Table('Here and there', ['method', 'split', 'macro AUC [95%]'], rows)],
        drawn,
    )


def _search(known: Tables) -> Section | None:
    table = known.search
    if not len(table):
        return None
    drawn, lines = [], []
    for method, trials in table.groupby('method', sort=False):
        trials = trials.assign(value=np.where(trials['diverged'], np.nan, trials['value']))
        trials = trials[trials['diverged'] | trials['value'].notna()]
        label = f'macro AUC on validation, {method}'
        drawn.append(
            Picture(
                label, design_pictures.search(trials, label), data=trials, name=f'search_{method}'
            )
        )
        if trials['value'].notna().any():
            best = trials.loc[trials['value'].idxmax()]
            lines.append(
                f'--config.optimizer.learning_rate={best["learning_rate"]:g} '
                f'--config.optimizer.weight_decay={best["weight_decay"]:g}'
            )
    return Section(
        'Search',
        'Picked on validation alone (mean over its classes); test was not looked at. The best, '
        'as flags for configs/derm_finetune.py (in a study: --config.finetune.optimizer…):',
        pictures=drawn,
        commands=lines,
    )


def _split(split: str, some: list[Group], known: Tables) -> Section | None:
    whole = [group for group in some if group.fraction == 1.0]
    if not whole:
        return None
    task = whole[0].models[0].task
    best = _best(split, whole, known)
    table = known.by_class[known.by_class['split'] == split]
    rows = [
        [row['method'], row['class'], row['positives'],
         _written(row['value'], row['low'], row['high'])]
        for row in table.to_dict('records')
    ]  # fmt: skip
    curves = tables.roc(whole)
    reliable = tables.reliability(whole)
    drawn = [
        Picture('ROC, each class against the rest', multiples.roc(curves), curves, f'roc_{split}'),
        Picture(
            'Reliability',
            multiples.reliability(reliable, binary=task.multilabel),
            reliable,
            f'reliability_{split}',
        ),
    ]
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
        'Curves and the confusion matrix are of the first seed of each method.',
        [Table('AUC of each class', ['method', 'class', 'positives', 'AUC [95%]'], rows)],
        drawn,
    )


def _subgroups(known: Tables) -> Section | None:
    table = known.by_subgroup
    if not len(table):
        return None
    rows = [
        [row['split'], row['method'], row['column'], row['group'], row['n'], NAMES[row['metric']],
         _written(row['value'], row['low'], row['high'])]
        for row in table.to_dict('records')
    ]  # fmt: skip
    drawn = []
    for (split, column, metric), part in table.groupby(['split', 'column', 'metric'], sort=False):
        points = part.assign(group=part['method'] + ', ' + part['group'])
        points = points[['group', 'n', 'value', 'low', 'high']]
        label = f'{NAMES[metric]} by {column}, {split}'
        drawn.append(
            Picture(
                label,
                comparisons.subgroups(points, label),
                data=points,
                name=f'subgroups_{split}_{column}_{metric}',
            )
        )
    header = ['split', 'method', 'column', 'group', 'cases', 'figure', 'mean [95%]']
    return Section(
        'Subgroups',
        'The macro AUC of a group is over the classes with 10 positives within the group, so it '
        'may be over other classes than that of the next group.',
        [Table('By group', header, rows)],
        drawn,
    )


def _embeddings(
    config: ConfigDict, done: Sequence[Run], study: epath.Path, groups: Groups
) -> Section | None:
    parts = []
    for run in done:
        if run.facts['role'] != design.EMBEDDING:
            continue
        table = pd.read_parquet(run.folder(study) / 'embeddings.parquet')
        columns = [name for name in table if name.startswith('feature_')]
        x, y = embedding_map.pca(table[columns].to_numpy()).T
        name = ' '.join(filter(None, [run.facts['method'], run.facts['network']]))
        label = table['label'].where(table['label'] != '', None)
        parts.append(pd.DataFrame({'method': name, 'x': x, 'y': y, 'class': label}))
    if not parts:
        return None
    points = pd.concat(parts)
    return Section(
        'Embeddings',
        f'Features of the images of {config.embed_split} before fine-tuning, first seed: two '
        'principal components of each encoder.',
        pictures=[
            Picture('Principal components', multiples.embeddings(points), points, 'embeddings')
        ],
    )


def _pairs(done: Sequence[Run], study: epath.Path) -> Section | None:
    shown = []
    for run in done:
        path = run.folder(study) / 'pairs.png'
        new = run.facts.get('path') not in [each.facts['path'] for each, _ in shown]
        if run.facts['role'] == design.PRETRAINING and path.exists() and new:
            shown.append((run, path.read_bytes()))
    if not shown:
        return None
    drawn = [Picture(run.facts['path'].replace('-', ' → '), png) for run, png in shown[-2:]]
    return Section('Positive pairs', 'Views of the first batch, one example a row.', [], drawn)


def _curves(done: Sequence[Run], study: epath.Path) -> Section | None:
    drawn = []
    kinds = {
        'Pre-training': (design.PRETRAINING, 'path', PRETRAINING_CURVES, ('loss', 'knn_top1')),
        'Fine-tuning': (
            design.FINETUNING, 'method', FINETUNING_CURVES, ('loss', 'auc_macro_all')
        ),
    }  # fmt: skip
    for title, (role, fact, labels, keys) in kinds.items():
        rows: list[dict[str, Any]] = []
        for run in done:
            if run.facts['role'] != role or run.facts.get('fraction', 1.0) < 1.0:
                continue
            if run.facts.get('learning_rate') is not None:
                continue
            name = ' '.join(filter(None, [run.facts[fact], run.facts['network']]))
            for record in read_metrics(run.folder(study)):
                rows += [
                    {
                        'metric': f'{labels[key]}, {record["split"]}',
                        'method': name,
                        'run': run.name,
                        'step': record['step'],
                        'value': record[key],
                    }
                    for key in keys
                    if key in record
                ]
        if rows:
            points = pd.DataFrame(rows)
            picture = multiples.learning_curves(points)
            file = f'curves_{title.lower().replace("-", "")}'
            drawn.append(Picture(title, picture, points, file))
    return Section('Course of training', '', [], drawn) if drawn else None


def _made_with(
    config: ConfigDict,
    runs: Sequence[Run],
    states: Mapping[str, str],
    study: epath.Path,
    command: Sequence[str],
) -> Section:
    versions = [['python', platform.python_version()]]
    for name in ('big_ssl', *PACKAGES):
        try:
            versions.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            continue
    data: dict[str, str] = {}
    for run in runs:
        if states[run.name] == DONE:
            result = read_result(run, study)
            for table, fingerprint in (
                ('trained_on/data', 'trained_on/fingerprint'),
                ('evaluated/table', 'evaluated/data'),
            ):
                if fingerprint in result:
                    data[result[fingerprint]] = str(result.get(table, ''))
    not_done = [[name, state] for name, state in states.items() if state != DONE]
    shown = [
        Table('Versions', ['package', 'version'], [*versions, ['processors', os.cpu_count()]]),
        Table(
            'Data',
            ['fingerprint (SHA-256 of paths, ids, labels, splits)', 'table'],
            [*data.items()],
        ),
    ]
    if not_done:
        shown.append(Table('Runs that are not done', ['run', 'state'], not_done))
    commands = [shlex.join(['python', *run.arguments(study)]) for run in runs]
    return Section(
        'Made with',
        'The command of this study, and those of its runs in an order in which they can be run.',
        shown,
        commands=[shlex.join(['python', '-m', 'big_ssl.study', *command[1:]]), *commands],
    )


def _synthetic(done: Sequence[Run], study: epath.Path) -> bool:
    return any(read_result(run, study).get('trained_on/synthetic') for run in done)


def _best(split: str, some: Sequence[Group], known: Tables) -> Group:
    """The group with the highest macro AUC (else the first figure there is)."""
    table = known.summaries[
        (known.summaries['split'] == split) & (known.summaries['fraction'] == 1.0)
    ]
    for metric in NAMES:
        rows = table[table['metric'] == metric]
        if len(rows):
            name = rows.loc[rows['value'].idxmax()]['method']
            return next(group for group in some if group.name == name)
    return some[0]


def _written(value: float, low: float, high: float, sign: str = '') -> str:
    if np.isnan(value):
        return '–'
    whisker = '' if np.isnan(low) else f' [{low:{sign}.3f}, {high:{sign}.3f}]'
    return f'{value:{sign}.3f}{whisker}'


def _sd(value: float) -> str:
    return '–' if np.isnan(value) else f'{value:.3f}'
