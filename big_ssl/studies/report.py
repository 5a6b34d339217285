"""The report of a study: `report.html`, `result.json`, and each figure as PNG and CSV."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from etils import epath
from ml_collections import ConfigDict

import big_ssl
from big_ssl.files import REPORT, RESULT
from big_ssl.report import page
from big_ssl.studies import cells, made_with, pages, results, search, tables
from big_ssl.studies.run import DONE, Run
from big_ssl.train import workdir as workdir_lib

log = logging.getLogger(__name__)

FIGURES = 'figures'


def write(config: ConfigDict, runs: Sequence[Run], study: epath.Path, command: list[str]) -> None:
    """Writes all of it from what is done, `result.json` last.

    Args:
      command: arguments of the study's own command line.
    """
    states = {run.name: run.state(study) for run in runs}
    missing = [name for name, state in states.items() if state != DONE]
    if missing:
        log.warning('%d of %d runs are not done: the report is partial', len(missing), len(runs))
    read = made_with.tables_read(runs, states, study)
    tried = search.trials(runs, states, study)
    for group, trials in cells.parts(tried, search.GROUP) if len(tried) else ():
        if not trials['picked'].any():
            name = results.name_of(*group)
            log.warning('%s is left out: %s', name, search.why_none(trials))
    shown = search.without_unpicked(runs, tried)
    groups = results.read_judged(config, shown, states, study)
    known = tables.tables_of(config, groups, tried, study)
    done = [run for run in shown if states[run.name] == DONE]
    synthetic = pages.is_synthetic(done, study)
    sections = pages.sections(config, done, study, groups, known, synthetic)
    sections.append(made_with.section(runs, states, read, study, command))
    sections = page.with_distinct_names(sections)
    page.save_figures(sections, study / FIGURES)
    highlights = pages.highlights(config, states, known)
    title = (config.title or 'Study') + (' (SYNTHETIC data)' if synthetic else '')
    page.page(title, sections, study / REPORT, highlights=highlights)
    result = figures(config, states, known)
    workdir_lib.write(study / RESULT, json.dumps(result, indent=2))


def figures(config: ConfigDict, states: Mapping[str, str], known: tables.Tables) -> dict[str, Any]:
    """`result.json`: flat; a figure of a method is `METHOD[@FRACTION]/SPLIT/METRIC`."""
    found: dict[str, Any] = {
        'big_ssl/version': big_ssl.__version__,
        'study/runs': len(states),
        'study/done': sum(state == DONE for state in states.values()),
    }
    for row in _rows(known.summaries):
        name = results.name_of(row['method'], '', row['fraction'])  # holds the network already
        place = f'{name}/{row["split"]}/{row["metric"]}'
        found[place] = row['value']
        for name in ('low', 'high', 'sd_pretraining', 'sd_finetuning', 'pretrainings', 'runs'):
            if not pd.isna(row[name]):
                found[f'{place}/{name}'] = row[name]
    for row in _rows(known.comparisons):
        place = f'{row["method"]}-{row["against"]}/{row["split"]}/{row["metric"]}'
        found[place] = row['difference']
        found |= {f'{place}/{name}': row[name] for name in ('low', 'high', 'p', 'p_holm')}
    if len(config.label_fractions) > 1:
        for name, fraction in known.labels_needed.items():
            found[f'labels_needed/{name}'] = fraction
        found['labels_needed/margin'] = config.margin
    clinics = known.shift['clinic'].nunique() if len(known.shift) else 0
    for row in _rows(known.shift):
        with_clinic = f'@{row["clinic"]}' if clinics > 1 else ''
        place = f'{row["method"]}/{row["split"]}/{tables.COMMON}{with_clinic}'
        found |= {place: row['value'], f'{place}/low': row['low'], f'{place}/high': row['high']}
    for table, name in (
        (known.by_class, 'auc/{class}'),
        (known.operating_points, '{metric}_at_val_threshold/{class}'),
        (known.by_subgroup, '{metric}@{column}={group}'),
    ):
        for row in _rows(table):
            place = f'{row["method"]}/{row["split"]}/{name.format(**row)}'
            found |= {place: row['value'], f'{place}/low': row['low'], f'{place}/high': row['high']}
    for row in _rows(known.calibration):
        name = '/'.join(filter(None, [row['metric'], row['class']]))
        place = f'{row["method"]}/{row["split"]}/{name}'
        found |= {place: row['value'], f'{place}/sd_pretraining': row['sd']}
    for row in _rows(known.search):
        name = results.name_of(*(row[key] for key in search.GROUP))
        place = f'search/{name}/lr{row["learning_rate"]:g}/wd{row["weight_decay"]:g}'
        found[place] = None if pd.isna(row['value']) else row['value']
        if row['picked']:
            found |= {f'search/{name}/{key}': row[key] for key in search.PAIR}
    return found


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(table.to_json(orient='records', double_precision=15)) if len(table) else []
