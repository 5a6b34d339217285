"""What a run leaves behind: `result.json`, `predictions.csv` and, from `pages`, `report.html`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas as pd
from etils import epath

import big_ssl
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.files import PAIRS, REPORT, RESULT
from big_ssl.methods import Method
from big_ssl.report import page
from big_ssl.tasks import pages
from big_ssl.tasks.scores import Scores
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.writers import read_metrics


def write_pretraining(workdir: epath.Path, method: Method, seen: Mapping[str, Any]) -> None:
    """The last monitored figures as `val/METRIC`, and the report."""
    if jax.process_index() != 0:
        return
    records = read_metrics(workdir)
    pairs = (workdir / PAIRS).read_bytes()
    sections = pages.pretraining(records, pairs, seen, method.figures)
    page.page(f'Pre-training: {method.title}', sections, workdir / REPORT)
    last = [record for record in records if record['split'] == 'val'][-1]
    figures = {f'val/{key}': value for key, value in last.items() if key not in ('step', 'split')}
    write_result(workdir, figures | dict(seen))


def write_evaluation(
    workdir: epath.Path,
    manifest: Manifest,
    scored: Sequence[Scores],
    task: Task,
    result: Mapping[str, Any],
    show: Callable[[Mapping[str, bytes]], None] = lambda pictures: None,
    figures: Mapping[str, str] | None = None,
) -> None:
    """All that an evaluation leaves, `result.json` last: where it is, the rest is too.

    Args:
      show: is given the report's pictures (PNG) as `SECTION/CAPTION`.
      figures: of the method that trained, by name, with their labels.
    """
    if jax.process_index() != 0:
        return
    table = pd.concat([predictions(manifest, scores, task) for scores in scored])
    write_table(workdir, 'predictions', table)
    sections = pages.evaluation(read_metrics(workdir), scored, task, result, figures or {})
    page.page('Evaluation', sections, workdir / REPORT)
    show({f'{s.title}/{p.caption}': p.png for s in sections for p in s.pictures})
    write_result(workdir, result)


def predictions(manifest: Manifest, scores: Scores, task: Task) -> pd.DataFrame:
    """A row for each case: ids, label, one score a class, and the manifest's further columns."""
    ours = identified(manifest, scores.rows[scores.first]).assign(split=scores.split)
    further = manifest.further.iloc[scores.rows].astype(object)
    return with_scores(ours, scores.probabilities, task, further, scores.case)


def identified(manifest: Manifest, rows: np.ndarray) -> pd.DataFrame:
    """`split`, `case_id`, `patient_id` and `label` of these rows."""
    names = ('split', 'case_id', 'patient_id', 'label')
    return pd.DataFrame({name: getattr(manifest, name)[rows] for name in names})


def with_scores(
    ours: pd.DataFrame,
    scores: np.ndarray,
    task: Task,
    further: pd.DataFrame,
    case: np.ndarray,
) -> pd.DataFrame:
    """A row for each case with one score a class and the manifest's further columns.

    Where the images of a case differ in a further column, its values are joined by '|'. A further
    column that has the name of one of ours is called `manifest_NAME`, such a class `class_NAME`.

    Args:
      ours: [cases] the first columns.
      scores: [cases, k].
      further: [images] columns of the manifest.
      case: [images] number of the case of each image.
    """
    classes = [f'class_{name}' if name in ours.columns else name for name in task.classes]
    ours = ours.assign(**dict(zip(classes, scores.T)))
    by_case = of_cases(further, case)
    clashes = {name: f'manifest_{name}' for name in by_case.columns if name in ours.columns}
    return pd.concat([ours, by_case.rename(columns=clashes).reset_index(drop=True)], axis=1)


def of_cases(further: pd.DataFrame, case: np.ndarray) -> pd.DataFrame:
    """A row for each case; the values in which its images differ are joined by '|'."""
    return further.groupby(case, sort=True).agg(_distinct)


def write_table(workdir: epath.Path, name: str, table: pd.DataFrame) -> None:
    """`NAME.csv` and `NAME.parquet`."""
    workdir_lib.write(workdir / f'{name}.csv', table.to_csv(index=False))
    workdir_lib.write(workdir / f'{name}.parquet', table.to_parquet(index=False))


def write_result(workdir: epath.Path, result: Mapping[str, Any]) -> None:
    """`result.json`, to be written last: where it is, the rest is too."""
    content = {'big_ssl/version': big_ssl.__version__, **result}
    workdir_lib.write(workdir / RESULT, json.dumps(content, indent=2))


def _distinct(column: pd.Series) -> str:
    return '|'.join(dict.fromkeys(column.tolist()))
