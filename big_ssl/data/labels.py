"""From the label column to numbers, and which labels a run may see."""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped

from big_ssl.data import permutation
from big_ssl.data.cases import patient_codes
from big_ssl.data.label_names import one_name
from big_ssl.data.manifest import SEPARATOR, UNCERTAIN, Manifest
from big_ssl.errors import InputError

log = logging.getLogger(__name__)

POLICIES = ('ignore', 'zeros', 'ones', 'own_class')
UNCERTAIN_CLASS = 2  # besides 0, negative, and 1, positive


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted.

    Attributes:
      classes: names, in the order of the scores.
      multilabel: any number of classes at once, else exactly one.
      negative: of a multi-label task, the label that means none of the classes ("No Finding"; see
        `encode` for "No Finding?").
      uncertain_class: of a multi-label task, "uncertain" is learnt as a third outcome of each class
        (U-MultiClass of Irvin et al. 2019, CheXpert, section 3).
    """

    classes: tuple[str, ...]
    multilabel: bool
    negative: str = ''
    uncertain_class: bool = False

    @property
    def outputs(self) -> int:
        """How many numbers the network gives an image."""
        return len(self.classes) * (3 if self.uncertain_class else 1)


def find_task(
    manifest: Manifest,
    rows: Int[np.ndarray, ' n'],
    kind: str,
    negative: str = '',
    *,
    classes: tuple[str, ...] = (),
    uncertain: str = 'ignore',
) -> Task:
    """The classes that occur among `rows`, sorted by name, or those given.

    Args:
      kind: 'single' or 'multi'.
      negative: see `Task`.
      classes: in the order of the scores; a line says which of them have no training label.
      uncertain: one of `POLICIES`.

    Raises:
      InputError: fewer classes than there is something to tell apart, two whose names differ in
        case only, or labels of several classes in a single-label task.
    """
    multilabel = kind == 'multi'
    distinct = set(manifest.label[rows].tolist())
    found = {name for label in distinct for name, _ in _names(label, multilabel)}
    _check_found(manifest, found - set(classes), multilabel)
    names = found - {negative} if multilabel else found
    least = 1 if multilabel else 2
    if len(names) < least:
        listed = ', '.join(sorted(names)) or 'none'
        raise InputError(
            f'{manifest.path}: the training labels have {len(names)} class(es) '
            f'({listed}), at least {least} are needed'
        )
    if absent := [name for name in classes if name not in names]:
        log.warning('%s: classes without a training label: %s', manifest.path, ', '.join(absent))
    own_class = multilabel and uncertain == 'own_class'
    return Task(classes or tuple(sorted(names)), multilabel, negative, own_class)


def _check_found(manifest: Manifest, found: set[str], multilabel: bool) -> None:
    if pair := one_name(sorted(found)):
        raise InputError(
            f'{manifest.path}: labels {pair[0]!r} and {pair[1]!r} differ in case only (or in how '
            'accents are stored); name the classes by --config.labels.classes'
        )
    for name in sorted(found):
        if not multilabel and (SEPARATOR in name or name.endswith(UNCERTAIN)):
            raise InputError(
                f'{manifest.path}: label {name!r} is of several classes or uncertain, give '
                '--config.labels.kind=multi; or say by --config.labels.map what it means, or name '
                'all classes by --config.labels.classes'
            )


def labelled(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' m']:
    """Those of `rows` that have a label."""
    return rows[manifest.label[rows] != '']


def encode(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], task: Task, uncertain: str = 'ignore'
) -> Int[np.ndarray, ' n'] | Float[np.ndarray, 'n k']:
    """Class numbers int32 [n], or float32 [n, k] for a multi-label task: 0, 1, NaN (not known).

    A class that a multi-label row does not name is negative there, unless the row says `NEGATIVE?`
    (`Task.negative`, "No Finding?"): whether there is none is uncertain, and so is each class that
    the row does not name. Under 'ignore' and 'own_class' these are as classes marked uncertain.
    Under 'zeros' and 'ones' the label is as if it were absent or certain, and they are 0 either
    way: no policy makes findings of a doubtful "No Finding". Of a label with and without the mark
    the certain one holds.

    Args:
      uncertain: what `LABEL?` is, one of `POLICIES`: 'ignore' (NaN), 'zeros', 'ones', or
        'own_class' (`UNCERTAIN_CLASS`).

    Raises:
      InputError: a row's label is not one of the task's classes.
    """
    return encode_names(manifest.label[rows], task, lambda i: manifest.where(rows[i]), uncertain)


def encode_names(
    names: Shaped[np.ndarray, ' n'],
    task: Task,
    where: Callable[[int], str],
    uncertain: str = 'ignore',
) -> Int[np.ndarray, ' n'] | Float[np.ndarray, 'n k']:
    """`encode` of labels as strings; `where` names one of them in a message."""
    number = {name: i for i, name in enumerate(task.classes)}
    doubt = {'ignore': np.nan, 'zeros': 0, 'ones': 1, 'own_class': UNCERTAIN_CLASS}[uncertain]
    not_named = 0 if uncertain == 'ones' else doubt  # where a row says NEGATIVE?
    targets = np.zeros((len(names), len(task.classes)), np.float32)
    for i, label in enumerate(names):
        parts = _names(label, task.multilabel)
        if (task.negative, False) in parts and (task.negative, True) not in parts:
            targets[i] = not_named
        for name, certain in sorted(parts, key=lambda part: part[1]):  # the certain one holds
            if task.multilabel and name == task.negative:
                continue
            if name not in number:
                raise InputError(
                    f'{where(i)}: label {name!r} does not occur in the training labels '
                    f'({", ".join(task.classes)})'
                )
            targets[i, number[name]] = 1 if certain else doubt
    return targets if task.multilabel else targets.argmax(axis=1).astype(np.int32)


def fraction(
    manifest: Manifest, rows: Int[np.ndarray, ' n'], share: float, seed: int, task: Task
) -> Int[np.ndarray, ' m']:
    """The rows of a random `share` of the patients (of the cases where no patient is known).

    Stratified by the rarest class that a patient has (those with none are a stratum too), at least
    one patient a stratum and one with each class. For one seed a smaller share is a part of every
    larger one: patients are taken in one order, those that must be there first.
    """
    if share >= 1 or not len(rows):
        return rows
    patient = patient_codes(manifest, rows)
    targets = encode(manifest, rows, task)
    present = targets == 1 if task.multilabel else np.eye(len(task.classes), dtype=bool)[targets]
    has = np.zeros((patient.max() + 1, len(task.classes)), bool)
    np.logical_or.at(has, patient, present)
    rarity = np.where(has, has.sum(axis=0), np.inf)
    stratum = np.where(has.any(axis=1), rarity.argmin(axis=1), -1)
    order = permutation.uniforms(seed, np.arange(len(has)))
    elsewhere = stratum[:, None] != np.arange(len(task.classes))
    first = np.where(has, order[:, None] + elsewhere, np.inf).argmin(axis=0)
    needed = np.unique(first[has.any(axis=0)])
    order[needed] -= 1
    kept = np.zeros(len(has), bool)
    kept[needed] = True
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
    names = manifest.label[rows]
    for i, (name, code) in enumerate(zip(names, case.tolist())):
        known = first.setdefault(code, i)
        if {*_names(name, True)} != {*_names(names[known], True)}:
            raise InputError(
                f'{manifest.where(rows[i])}: label {name!r}, but {names[known]!r} for the same '
                f'case in {manifest.where(rows[known])}'
                '; correct it, or judge images one by one with --config.aggregate=none'
            )
    return np.array([first[code] for code in range(len(first))])


def _names(label: str, multilabel: bool) -> list[tuple[str, bool]]:
    """Names of classes, and whether each is certain."""
    if not multilabel:
        return [(label.strip(), True)] if label.strip() else []
    parts = filter(None, map(str.strip, label.split(SEPARATOR)))
    return [(part.removesuffix(UNCERTAIN).strip(), not part.endswith(UNCERTAIN)) for part in parts]
