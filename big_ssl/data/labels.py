"""From the label column to numbers, and which labels a run may see."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from big_ssl.data import permutation
from big_ssl.data.cases import codes, patient_names
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError

SEPARATOR = '|'


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
      classes: names, in the order of the scores.
      multilabel: any number of classes at once, else exactly one.
      negative: of a multi-label task, the label that means none of the classes ("No Finding").
    """

    classes: tuple[str, ...]
    multilabel: bool
    negative: str = ''


def find_task(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], kind: str, negative: str = ''
) -> Task:
    """The classes that occur among `rows`, sorted by name.

    Args:
      kind: 'single' or 'multi'.
      negative: see `Task`.

    Raises:
      InputError: fewer classes than there is something to tell apart.
    """
    multilabel = kind == 'multi'
    found = {name for row in rows for name in _names(manifest.label[row], multilabel)}
    names = found - {negative} if multilabel else found
    least = 1 if multilabel else 2
    if len(names) < least:
        listed = ', '.join(sorted(names)) or 'none'
        raise InputError(
            f'{manifest.path}: the training labels have {len(names)} class(es) '
            f'({listed}), at least {least} are needed'
        )
    return Task(tuple(sorted(names)), multilabel, negative)


def labelled(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' m']:
    """Those of `rows` that have a label."""
    return rows[manifest.label[rows] != '']


def encode(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], task: Task
) -> Int[np.ndarray, ' n'] | Float[np.ndarray, 'n k']:
    """Class numbers int32 [n], or 0/1 float32 [n, k] for a multi-label task.

    Raises:
      InputError: a row's label is not one of the task's classes.
    """
    number = {name: i for i, name in enumerate(task.classes)}
    targets = np.zeros((len(rows), len(task.classes)), np.float32)
    for i, row in enumerate(rows):
        for name in _names(manifest.label[row], task.multilabel):
            if task.multilabel and name == task.negative:
                continue
            if name not in number:
                raise InputError(
                    f'{manifest.where(row)}: label {name!r} does not occur in the training labels '
                    f'({", ".join(task.classes)})'
                )
            targets[i, number[name]] = 1
    return targets if task.multilabel else targets.argmax(axis=1).astype(np.int32)


def fraction(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], share: float, seed: int, task: Task
) -> Int[np.ndarray, ' m']:
    """The rows of a random `share` of the patients (of the cases where no patient is known).

    Stratified by the rarest class that a patient has (those with none are a stratum too), at least
    one patient a stratum. For one seed a smaller share is a part of every larger one.
    """
    if share >= 1:
        return rows
    names = patient_names(manifest, rows)
    patient = codes(names)
    targets = encode(manifest, rows, task)
    present = targets if task.multilabel else np.eye(len(task.classes))[targets]
    has = np.zeros((patient.max() + 1, len(task.classes)))
    np.maximum.at(has, patient, present)
    rarity = np.where(has > 0, has.sum(axis=0), np.inf)
    stratum = np.where(has.any(axis=1), rarity.argmin(axis=1), -1)
    order = permutation.uniforms(seed, np.arange(len(has)))
    kept = np.zeros(len(has), bool)
    for name in np.unique(stratum):
        members = np.flatnonzero(stratum == name)
        count = max(1, round(share * len(members)))
        kept[members[np.argsort(order[members])[:count]]] = True
    return rows[kept[patient]]


def case_label(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], case: Int[np.ndarray, ' n']
) -> Int[np.ndarray, ' cases']:
    """Position among `rows` of the first image of each case, after checking that its images agree.

    Raises:
      InputError: two images of a case have different labels.
    """
    first: dict[int, int] = {}
    for i, (row, code) in enumerate(zip(rows, case.tolist())):
        known = first.setdefault(code, i)
        other = rows[known]
        if {*_names(manifest.label[row], True)} != {*_names(manifest.label[other], True)}:
            raise InputError(
                f'{manifest.where(row)}: label {manifest.label[row]!r}, but '
                f'{manifest.label[other]!r} for the same case in {manifest.where(other)}'
                '; correct it, or judge images one by one with --config.aggregate=none'
            )
    return np.array([first[code] for code in range(len(first))])


def _names(label: str, multilabel: bool) -> list[str]:
    parts = label.split(SEPARATOR) if multilabel else [label]
    return [name for part in parts if (name := part.strip())]
