"""What a run leaves behind: `result.json`, `predictions.csv` and, from `pages`, `report.html`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import pandas as pd
from etils import epath

import big_ssl
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.report import page
from big_ssl.tasks import pages
from big_ssl.tasks.scores import Scores
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.writers import read_metrics

PAIRS, PREDICTIONS, REPORT = 'pairs.png', 'predictions.csv', 'report.html'


def write_pretraining(workdir: epath.Path, seen: Mapping[str, Any]) -> None:
    """The last monitored figures as `val/METRIC`, and the report."""
    if jax.process_index() != 0:
        return
    records = read_metrics(workdir)
    sections = pages.pretraining(records, (workdir / PAIRS).read_bytes(), seen)
    page.page('Pre-training', sections, workdir / REPORT)
    last = [record for record in records if record['split'] == 'val'][-1]
    figures = {f'val/{key}': value for key, value in last.items() if key not in ('step', 'split')}
    _write_result(workdir, figures | dict(seen))


def write_evaluation(
    workdir: epath.Path,
    manifest: Manifest,
    scored: Sequence[Scores],
    task: Task,
    result: Mapping[str, Any],
) -> None:
    """All that an evaluation leaves, `result.json` last: where it is, the rest is too."""
    if jax.process_index() != 0:
        return
    table = pd.concat([predictions(manifest, scores, task) for scores in scored])
    workdir_lib.write(workdir / PREDICTIONS, table.to_csv(index=False))
    sections = pages.evaluation(read_metrics(workdir), scored, task, result)
    page.page('Evaluation', sections, workdir / REPORT)
    _write_result(workdir, result)


def predictions(manifest: Manifest, scores: Scores, task: Task) -> pd.DataFrame:
    """A row for each case: ids, label, one score a class, and the manifest's further columns.

    Where the images of a case differ in a further column, its values are joined by '|'. A further
    column that has the name of one of ours is called `manifest_NAME`, such a class `class_NAME`.
    """
    first = scores.rows[scores.first]
    ids = {name: getattr(manifest, name)[first] for name in ('case_id', 'patient_id', 'label')}
    ours = pd.DataFrame({'split': scores.split} | ids)
    classes = [f'class_{name}' if name in ours.columns else name for name in task.classes]
    ours = ours.assign(**dict(zip(classes, scores.probabilities.T)))
    by_case = manifest.further.iloc[scores.rows].groupby(scores.case, sort=True)
    further = by_case.agg(_distinct)
    clashes = {name: f'manifest_{name}' for name in further.columns if name in ours.columns}
    return pd.concat([ours, further.rename(columns=clashes).reset_index(drop=True)], axis=1)


def _distinct(column: pd.Series) -> str:
    return '|'.join(dict.fromkeys(column.tolist()))


def _write_result(workdir: epath.Path, result: Mapping[str, Any]) -> None:
    content = {'big_ssl/version': big_ssl.__version__, **result}
    workdir_lib.write(workdir / workdir_lib.RESULT, json.dumps(content, indent=2))
