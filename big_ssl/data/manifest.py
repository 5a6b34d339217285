"""A table of images, one row each, read and checked before anything else happens.

Columns: `image_path`, and where known `case_id`, `patient_id`, `label`, `split`. An empty field
means "not known". Every complaint names the file, the row (as a spreadsheet counts: the header is
row 1) and the column.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from etils import epath
from jaxtyping import Bool, Int, UInt8

from big_ssl.data import splits
from big_ssl.data.tables import read_table
from big_ssl.errors import InputError
from big_ssl.files import is_remote

SEPARATOR, UNCERTAIN = '|', '?'  # of several labels; after one that is uncertain
ALL = 'all'
COLUMNS = ('image_path', 'case_id', 'patient_id', 'label', 'split')
OWN_NAMES = {name: name for name in COLUMNS}


class Store(Protocol):
    """Encoded images that are no files of their own, indexed by a manifest's rows.

    Attributes:
      sizes, formats, orientations: as in `images.ImageTable`.
      grey: one channel.
    """

    @property
    def sizes(self) -> Int[np.ndarray, 'n 2']: ...

    @property
    def formats(self) -> UInt8[np.ndarray, ' n']: ...

    @property
    def orientations(self) -> UInt8[np.ndarray, ' n']: ...

    @property
    def grey(self) -> Bool[np.ndarray, ' n']: ...

    def read(self, rows: Int[np.ndarray, ' k']) -> list[bytes]:
        """The encoded image of each of these rows; raises InputError where one is damaged."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The table as arrays of strings; `''` is "not known".

    Attributes:
      path: of the table, for messages.
      image_path: absolute path of each image.
      case_id, patient_id, label, split: one entry an image.
      further: the columns that big_ssl does not read, carried to `predictions.csv`.
      lines: row number of each image in messages.
      label_in_table: the labels before they were given a task's names, if they were.
      announcements: what a person should be told about the table.
      listed_in: where each image is named, if the images do not come from one table of text.
      folder: of the table; None: `image_path` is as it was listed, and no file.
      store: where the images are; None: in files, at `image_path`.
    """

    path: str
    image_path: np.ndarray
    case_id: np.ndarray
    patient_id: np.ndarray
    label: np.ndarray
    split: np.ndarray
    further: pd.DataFrame
    lines: np.ndarray
    announcements: tuple[str, ...] = ()
    label_in_table: np.ndarray | None = None
    listed_in: np.ndarray | None = None
    folder: str | None = None
    store: Store | None = None

    def __len__(self) -> int:
        return len(self.image_path)

    def where(self, row: int) -> str:
        """Names a row in a message."""
        return _where(self.path, self.lines, self.listed_in, row)

    def rows(self, splits: tuple[str, ...]) -> np.ndarray:
        """Indices of the images of these splits; `('all',)` is every image, whatever its split.

        Raises:
          InputError: one of the splits has no rows, or none is named.
        """
        if splits == (ALL,):
            return np.arange(len(self))
        if not splits:
            raise InputError('config: splits: the name of a split is empty')
        for name in splits:
            if not (self.split == name).any():
                found = ', '.join(sorted(set(self.split.tolist()) - {''})) or 'none'
                raise InputError(f'{self.path}: no row has split {name!r} (splits found: {found})')
        return np.flatnonzero(np.isin(self.split, splits))

    def listed_paths(self) -> list[str]:
        """Paths relative to `folder` where they can be: the same wherever the table lies."""
        folder = self.folder

        def listed(path: str) -> str:
            if folder is None or is_remote(path) != is_remote(folder):
                return path
            return os.path.relpath(path, folder)

        return [listed(path) for path in self.image_path.tolist()]

    def fingerprint(self) -> str:
        """SHA-256 of paths (relative to the table), ids, labels and splits, 16 hex digits."""
        digest = hashlib.sha256()
        label = self.label if self.label_in_table is None else self.label_in_table
        for row in zip(self.listed_paths(), self.case_id, self.patient_id, label, self.split):
            digest.update('\x1f'.join(row).encode() + b'\x1e')
        return digest.hexdigest()[:16]


def read_manifest(
    path: str,
    *,
    columns: Mapping[str, str],
    image_root: str | None = None,
    split_seed: int | None = 0,
) -> Manifest:
    """Reads and checks a table; `path` is as `tables.read_table` takes it, the rest as `checked`.

    `image_root` is by default the table's folder.
    """
    folder = str(epath.Path(path).parent)
    return checked(
        read_table(path),
        path,
        columns=columns,
        root=image_root or folder,
        folder=folder,
        split_seed=split_seed,
    )


def checked(
    table: pd.DataFrame,
    path: str,
    *,
    columns: Mapping[str, str],
    root: str | None,
    folder: str | None = None,
    split_seed: int | None = 0,
    listed_in: np.ndarray | None = None,
) -> Manifest:
    """Checks a table of images.

    Args:
      table: of strings; its index is the row in messages.
      path: of the table, for messages.
      columns: our name → the table's own, for each of `COLUMNS`.
      root: what relative image paths are relative to; None leaves them as they are.
      folder: see `Manifest`.
      split_seed: of the split by patient that is made when there is no split column; None makes
        none.
      listed_in: where each image is named, in place of its row.

    Raises:
      InputError: naming file, row and column.
    """
    lines = table.index.to_numpy()
    where = functools.partial(_where, path, lines, listed_in)
    text = {ours: _column(table, ours, columns[ours], path) for ours in COLUMNS}
    units = splits.unit_names(text['image_path'], text['case_id'], text['patient_id'])
    text['image_path'] = _resolve(text['image_path'], root, columns['image_path'], where)
    _check_unique(text['image_path'], columns['image_path'], where)
    _check_nested(text['case_id'], text['patient_id'], where)
    announcements: tuple[str, ...] = ()
    if split_seed is not None and columns['split'] not in table:
        text['split'], announcements = _made_split(units, split_seed, path, columns['split'])
    elif split_seed is not None and (unsplit := int((text['split'] == '').sum())) > 0:
        announcements = (f'{path}: {unsplit} rows have no split and are not used',)
    if (text['split'] == ALL).any() and (text['split'] != ALL).any():
        first = int(np.flatnonzero(text['split'] == ALL)[0])
        raise InputError(f'{where(first)}: a split may not be called {ALL!r}: that means all rows')
    for what in ('patient', 'case'):
        _check_leak(text[f'{what}_id'], text['split'], what, where)
    further = table.drop(columns=[columns[name] for name in COLUMNS if columns[name] in table])
    return Manifest(
        path=path,
        image_path=text['image_path'],
        case_id=text['case_id'],
        patient_id=text['patient_id'],
        label=text['label'],
        split=text['split'],
        further=further.reset_index(drop=True),
        lines=lines,
        announcements=announcements,
        listed_in=listed_in,
        folder=folder,
    )


def _where(path: str, lines: np.ndarray, listed_in: np.ndarray | None, row: int) -> str:
    return f'{path} row {lines[row]}' if listed_in is None else f'{path}: {listed_in[row]}'


def _made_split(
    units: np.ndarray, seed: int, path: str, column: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    split = splits.seeded_split(units, seed)
    counts = ', '.join(f'{name} {(split == name).sum()}' for name in splits.NAMES)
    line = (
        f'{path} has no column {column!r}: split by patient (by case or image where none is known) '
        f'with seed {seed}: {counts} images'
    )
    return split, (line,)


def _column(table: pd.DataFrame, ours: str, theirs: str, path: str) -> np.ndarray:
    if theirs in table:
        return table[theirs].to_numpy(dtype=object)
    if ours == 'image_path' or theirs != ours:
        found = ', '.join(table.columns)
        hint = '' if theirs != ours else f' (rename it by --config.dataset.columns.{ours}=NAME)'
        raise InputError(f'{path}: no column {theirs!r}{hint}; columns found: {found}')
    return np.full(len(table), '', dtype=object)


def _resolve(
    paths: np.ndarray, root: str | None, column: str, where: Callable[[int], str]
) -> np.ndarray:
    if root is None:
        return paths
    resolved = []
    for row, value in enumerate(paths):
        if not value:
            raise InputError(f'{where(row)}: column {column!r} is empty')
        inside = os.path.normpath(value)
        if is_remote(value):
            resolved.append(value)
        elif os.path.isabs(value):
            resolved.append(inside)
        elif Path(inside).parts[:1] == ('..',):
            raise InputError(
                f'{where(row)}: {column} {value!r} climbs out of {root} '
                '(use an absolute path or --config.dataset.image_root)'
            )
        else:
            resolved.append(str(epath.Path(root) / inside))
    return np.array(resolved, dtype=object)


def _check_unique(paths: np.ndarray, column: str, where: Callable[[int], str]) -> None:
    first: dict[str, int] = {}
    for row, value in enumerate(paths):
        if first.setdefault(value, row) != row:
            raise InputError(f'{where(row)}: {column} {value!r} is also in {where(first[value])}')


def _check_nested(cases: np.ndarray, patients: np.ndarray, where: Callable[[int], str]) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for row, (case, patient) in enumerate(zip(cases, patients)):
        known, first = seen.setdefault(case, (patient, row)) if case else (patient, row)
        if known != patient:
            raise InputError(
                f'{where(row)}: case {case!r} belongs to patient {patient!r}, but to {known!r} in '
                f'{where(first)}; a case id must mean one case in the whole table'
            )


def _check_leak(
    ids: np.ndarray, splits: np.ndarray, what: str, where: Callable[[int], str]
) -> None:
    seen: dict[str, tuple[str, int]] = {}
    for row, (name, split) in enumerate(zip(ids, splits)):
        known, first = seen.setdefault(name, (split, row)) if name and split else (split, row)
        if known != split:
            raise InputError(
                f'{where(row)}: {what} {name!r} is in split {split!r}, but in {known!r} in '
                f'{where(first)}; a {what} may be in one split only'
            )
