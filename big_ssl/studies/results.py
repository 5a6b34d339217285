"""What the runs of a study left in their folders, read back."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath
from jaxtyping import Float, Int, Shaped
from ml_collections import ConfigDict

from big_ssl.data.labels import Task, encode_names
from big_ssl.errors import InputError
from big_ssl.files import RESULT
from big_ssl.studies import design
from big_ssl.studies.run import DONE, Run

ELSEWHERE = 'elsewhere'
IDS = ('split', 'case_id', 'patient_id', 'label')  # of `predictions.csv`; then scores by class


@dataclasses.dataclass(frozen=True)
class Judged:
    """A fine-tuned model on the cases of one split.

    Attributes:
      run: that judged it.
      split: its name, 'elsewhere' for another clinic's table (and its split, of several).
      task: what is predicted.
      unit: what is judged, 'cases' or 'images'; below, a case is either.
      targets: [cases] class numbers, or [cases, k] of 0, 1, NaN.
      probabilities: [cases, k].
      patients: [cases] names of the clusters.
      table: rows of `predictions.csv`.
    """

    run: Run
    split: str
    task: Task
    unit: str
    targets: np.ndarray
    probabilities: Float[np.ndarray, 'n k']
    patients: Shaped[np.ndarray, ' n']
    table: pd.DataFrame


@dataclasses.dataclass(frozen=True)
class Group:
    """All models of one method (network, share of labels) on the same cases.

    Attributes:
      method, network, fraction: what they have in common.
      models: one for each run.
      whole: whether its share of the labels is the largest of the study.
    """

    method: str
    network: str
    fraction: float
    models: tuple[Judged, ...]
    whole: bool

    @property
    def name(self) -> str:
        return name_of(self.method, self.network)

    @property
    def scores(self) -> Float[np.ndarray, 'r n k']:
        return np.stack([model.probabilities for model in self.models])

    @property
    def pretraining(self) -> Int[np.ndarray, ' r']:
        """Which pre-training each began with: all that a seed made is one."""
        return np.array([model.run.facts['seed'] for model in self.models])


def name_of(method: str, network: str, fraction: float = 1.0) -> str:
    """METHOD[ NETWORK][@FRACTION], as the report and `result.json` call a group."""
    share = f'@{fraction:g}' if fraction < 1 else ''
    return ' '.join(filter(None, [method, network])) + share


def read_result(run: Run, study: epath.Path) -> dict[str, Any]:
    return json.loads((run.folder(study) / RESULT).read_text())


def read_judged(
    config: ConfigDict, runs: Sequence[Run], states: dict[str, str], study: epath.Path
) -> dict[str, list[Group]]:
    """The groups of each split that the study looks at, the clinic's own one first.

    Raises:
      InputError: two runs judged other cases under the name of one split, or predictions are gone.
    """
    most = max(config.label_fractions)
    wanted = list(filter(None, [config.in_distribution, config.shift]))
    found: dict[str, dict[tuple[str, str, float], list[Judged]]] = {}
    for run in runs:
        if states[run.name] != DONE or 'method' not in run.facts or 'fraction' not in run.facts:
            continue
        elsewhere = run.facts['role'] == design.ELSEWHERE_ROLE
        for judged in _of_run(run, study, None if elsewhere else wanted):
            key = (run.facts['method'], run.facts['network'], run.facts['fraction'])
            found.setdefault(judged.split, {}).setdefault(key, []).append(judged)
    order = dict.fromkeys([*wanted, *found])
    groups = {
        split: [
            Group(*key, tuple(models), whole=key[-1] == most)
            for key, models in found[split].items()
        ]
        for split in order
        if split in found
    }
    for split, some in groups.items():
        _check_same_cases(split, some)
    return groups


def _of_run(run: Run, study: epath.Path, splits: list[str] | None) -> list[Judged]:
    """One for each of the splits; `None`: of each that there is, another clinic's table."""
    result = read_result(run, study)
    task = Task(
        tuple(result['task/classes']), bool(result['task/multilabel']), result['task/negative']
    )
    unit = result.get('task/unit', 'cases')
    path = run.folder(study) / 'predictions.csv'
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f'{path} is gone; delete {path.parent} to make it again') from None
    names = dict.fromkeys(table['split'] if splits is None else splits)
    parts = [(name, table[table['split'] == name]) for name in names]
    if splits is None:
        one = len(parts) == 1
        parts = [(ELSEWHERE if one else f'{ELSEWHERE} {name}', part) for name, part in parts]
    return [_judged(run, name, task, unit, part, path) for name, part in parts if len(part)]


def _judged(
    run: Run, split: str, task: Task, unit: str, table: pd.DataFrame, path: epath.Path
) -> Judged:
    table = table.reset_index(drop=True)
    columns = [f'class_{name}' if name in IDS else name for name in task.classes]
    own = np.array([f'row {i}' for i in range(len(table))], object)
    case = np.where(table['case_id'] != '', 'case ' + table['case_id'], own)
    patients = np.where(table['patient_id'] != '', 'patient ' + table['patient_id'], case)
    return Judged(
        run=run,
        split=split,
        task=task,
        unit=unit,
        targets=encode_names(table['label'].to_numpy(), task, lambda i: f'{path} row {i + 2}'),
        probabilities=table[columns].to_numpy(np.float64),
        patients=patients,
        table=table,
    )


def _check_same_cases(split: str, groups: Sequence[Group]) -> None:
    models = [model for group in groups for model in group.models]
    ids = list(IDS[1:])
    for model in models[1:]:
        if not model.table[ids].equals(models[0].table[ids]) or model.task != models[0].task:
            raise InputError(
                f'{model.run.name} and {models[0].run.name} did not judge the same cases of '
                f'{split}; were they made with other settings?'
            )
