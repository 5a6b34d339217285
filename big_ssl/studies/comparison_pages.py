"""Sections of a report that compare methods."""

import pandas as pd
from ml_collections import ConfigDict

from big_ssl.report import comparisons
from big_ssl.report import design as design_pictures
from big_ssl.report.page import Picture, Section, Table
from big_ssl.studies import cells, search, tables
from big_ssl.studies.results import name_of
from big_ssl.studies.tables import NAMES, Tables
from big_ssl.tasks.pages import INTERVAL_RULE

METHODS_TEXT = (
    'A method is judged over its seeds: each seed is a chain of its own, pre-training included. '
    'Several fine-tunings of one pre-training are averaged first; they are no replicates of the '
    'method. Values are means over seeds; "sd" is the deviation between seeds and between '
    'fine-tunings of one pre-training.\n\n'
    f'{INTERVAL_RULE} The variation of seeds is added, as far as it is more than what different '
    'errors on the same patients explain. Where a method has one seed, its interval cannot hold '
    'the variation of pre-training, and is marked.'
)
MACRO_TEXT = (
    'Macro AUC: unweighted mean over classes with at least 10 positive cases in the split, each '
    'against the rest; rarer classes are shown below and left out of the mean.'
)


def overview(config: ConfigDict, known: Tables) -> Section | None:
    table = known.summaries
    if not len(table):
        return None
    shown = table[table['whole']]
    if not len(shown):
        return None
    by_split = [_means(split, part, config) for split, part in cells.parts(shown, 'split')]
    drawn = []
    singles = known.single_runs
    for metric in [name for name in NAMES if name in set(shown['metric'])]:
        summary = shown[shown['metric'] == metric]
        single = singles[(singles['metric'] == metric) & singles['whole']]
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
    if (share := shown['fraction'].max()) < 1:
        text = f'With {share:.3g} of the labels.\n\n{text}'
    if not shown['covers_pretraining'].all():
        text += '\n\n* one seed: the interval does not hold the variation of pre-training.'
    return Section('Comparison', text, by_split, drawn)


def _means(split: str, part: pd.DataFrame, config: ConfigDict) -> Table:
    """A row a method, a column a figure; deviations are those of the first figure compared."""
    metrics = [name for name in NAMES if name in set(part['metric'])]
    main = next((name for name in config.compared if name in metrics), metrics[0])
    rows = []
    for method, own in cells.parts(part, 'method'):
        of = {row.metric: row for row in cells.rows(own)}
        first = of[main]
        mark = '' if first.covers_pretraining else ' *'
        rows.append(
            [
                method,
                *(cells.written(of[m].value, of[m].low, of[m].high) + mark for m in metrics),
                cells.deviation(first.sd_pretraining),
                cells.deviation(first.sd_finetuning),
                first.pretrainings,
                first.runs,
            ]
        )
    header = [
        'method',
        *(NAMES[m] for m in metrics),
        'sd seeds',
        'sd fine-tunings',
        'seeds',
        'runs',
    ]
    of_what = f'{part["cases"].iloc[0]} {part["unit"].iloc[0]}'
    return Table(
        f'{split}, {of_what}: means over seeds [95%]; deviations of the {NAMES[main]}',
        header,
        rows,
    )


def differences(known: Tables) -> Section | None:
    table = known.comparisons
    if not len(table):
        return None
    rows = [
        [
            row.split,
            NAMES[row.metric],
            f'{row.method} − {row.against}',
            cells.written(row.difference, row.low, row.high, '+'),
            cells.p_value(row.p),
            cells.p_value(row.p_holm),
            cells.p_value(row.p_permutation),
        ]
        for row in cells.rows(table)
    ]
    header = ['split', 'figure', 'methods', 'difference [95%]', 'p', 'p (Holm)', 'p (permutation)']
    drawn = []
    for (split, metric), part in cells.parts(table, ['split', 'metric']):
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
        'Paired: both methods on the same patients, whose difference counts; the variation of '
        'seeds is added. p is two-sided and goes with the interval; Holm corrects it over all '
        f'{len(table)} comparisons of this study. The permutation p-value swaps the predictions of '
        "the first seeds' two models patient by patient: it speaks of these two trained models, "
        'not of the methods, and is not corrected.',
        [Table('Paired differences', header, rows)],
        drawn,
    )


def labels(config: ConfigDict, known: Tables, validation: str) -> Section | None:
    """`validation`: `labels.val` of the fine-tunings."""
    if not len(known.label_differences):
        return None
    metric = config.compared[0]
    points = known.summaries[
        (known.summaries['split'] == config.in_distribution) & (known.summaries['metric'] == metric)
    ][['method', 'fraction', 'value', 'low', 'high']]
    rows = [
        [row.method, f'{row.fraction:.0%}', cells.written(row.difference, row.low, row.high, '+')]
        for row in cells.rows(known.label_differences)
    ]
    needed = [[name, f'{share:.0%}'] for name, share in known.labels_needed.items()]
    return Section(
        'Label efficiency',
        'Fractions are of patients (cases where no patient is known), drawn '
        f'{len(config.label_draws)} time(s), stratified with at least one case a class, each '
        'within the next larger one; validation is '
        f'{"reduced alike" if validation == "alike" else "used in full"}; every '
        'fine-tuning has as many steps. Each seed has draws of its own, so intervals over seeds '
        'hold their variation.\n\nLabels needed: the smallest fraction whose paired '
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


def shift(known: Tables) -> Section | None:
    if not len(known.frequencies):
        return None
    shown, drawn, common = [], [], []
    clinics = known.frequencies['clinic'].unique()
    for clinic, counts in cells.parts(known.frequencies, 'clinic'):
        suffix = f'_{clinic}' if len(clinics) > 1 else ''
        label = f'{NAMES[tables.COMMON]}, {clinic}' if suffix else NAMES[tables.COMMON]
        names = ', '.join(counts[counts['common']]['class'].unique()) or 'none'
        common.append(f'{clinic}: {names}' if suffix else names)
        if len(known.shift) and clinic in set(known.shift['clinic']):
            points = known.shift[known.shift['clinic'] == clinic]
            shown.append(cells.side_by_side(f'{label} [95%]', points, ['method'], 'split'))
            picture = comparisons.shift(points, label)
            drawn.append(Picture(label, picture, points, f'shift{suffix}'))
        caption = f'How often each class is seen{suffix and f", {clinic}"}'
        picture = design_pictures.class_frequencies(counts)
        drawn.append(Picture(caption, picture, counts, f'class_frequencies{suffix}'))
    return Section(
        'Another clinic',
        'No weight was trained or picked on the other clinic. Macro AUC over the classes that have '
        f'at least 10 positive cases in both: {"; ".join(common)}. Top-1 accuracy moves '
        'with the frequencies of the classes, drawn below; the AUC of a class does not.',
        shown,
        drawn,
    )


def searched(known: Tables) -> Section | None:
    if not len(known.search):
        return None
    drawn, picked, flags = [], [], []
    values = known.search['value'].dropna()
    limits = (values.min(), values.max()) if len(values) else None
    for group, trials in cells.parts(known.search, search.GROUP):
        name = name_of(*group)
        shown = trials[trials['diverged'] | trials['value'].notna()]
        if len(shown):
            label = f'macro AUC on validation, {name}'
            picture = design_pictures.search(shown, label, limits=limits)
            drawn.append(Picture(label, picture, data=shown, name=f'search_{name}'))
        for best in cells.rows(trials[trials['picked']]):
            rate, decay = f'{best.learning_rate:g}', f'{best.weight_decay:g}'
            picked.append([name, rate, decay, best.value, _remark(trials, best.learning_rate)])
            flags.append(
                f'--config.optimizer.learning_rate={rate} --config.optimizer.weight_decay={decay}'
            )
        if not trials['picked'].any():
            picked.append([name, '–', '–', '–', f'left out of all else: {search.why_none(trials)}'])
    return Section(
        'Search',
        'Picked on validation alone (mean over its classes, seeds and draws); whatever else is '
        'judged here is judged with the picked pair.'
        + (' As flags of a fine-tuning:' if len(flags) == 1 else ''),
        [Table('Picked', ['method', 'learning rate', 'decay', 'macro AUC on val', ''], picked)],
        drawn,
        flags if len(flags) == 1 else (),
    )


def _remark(trials: pd.DataFrame, picked: float) -> str:
    """What should be known about a pick."""
    rates, open_pairs = trials['learning_rate'], int((trials['value'].isna()).sum())
    remarks = []
    if rates.nunique() > 1 and picked in (rates.min(), rates.max()):
        remarks.append('the lowest or highest rate tried: try further ones')
    if open_pairs:
        remarks.append(f'{open_pairs} of {len(trials)} pairs diverged or are not done')
    return '; '.join(remarks)


def subgroups(known: Tables) -> Section | None:
    table = known.by_subgroup
    if not len(table):
        return None
    shown, drawn = [], []
    for (split, column, metric), part in cells.parts(table, ['split', 'column', 'metric']):
        label = f'{NAMES[metric]} by {column}, {split}'
        shown.append(cells.side_by_side(f'{label} [95%]', part, ['group', 'n']))
        points = part.assign(group=part['method'] + ', ' + part['group'])
        points = points[['group', 'n', 'value', 'low', 'high']]
        drawn.append(
            Picture(
                label,
                comparisons.subgroups(points, label),
                data=points,
                name=f'subgroups_{split}_{column}_{metric}',
            )
        )
    return Section(
        'Subgroups',
        'The macro AUC of a group is over the classes with 10 positives within the group, so it '
        'may be over other classes than that of the next group.',
        shown,
        drawn,
    )
