"""A table of images, one row each, read and checked before anything else happens.

Columns: `image_path`, and where known `case_id`, `patient_id`, `label`, `split`. An empty field
means "not known". Every complaint names the file, the row (as a spreadsheet counts: the header is
row 1) and the column.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
from etils import epath
from jaxtyping import Bool, Int, UInt8

from big_ssl.data import splits
from big_ssl.data.tables import read_table
from big_ssl.data.text import Packed, Text, chunked, codes, compact, frame, strings
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
    """The table as columns of strings; `''` is "not known".

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
    image_path: Packed
    case_id: Text
    patient_id: Text
    label: Text
    split: Text
    further: pd.DataFrame
    lines: pd.Index
    announcements: tuple[str, ...] = ()
    label_in_table: Text | None = None
    listed_in: Packed | None = None
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
        wanted = np.zeros(len(self), bool)
        for name in splits:
            of_split = self.split == name
            if not of_split.any():
                found = ', '.join(sorted(set(self.split) - {''})) or 'none'
                raise InputError(f'{self.path}: no row has split {name!r} (splits found: {found})')
            wanted |= of_split
        return np.flatnonzero(wanted)

    def listed_paths(self) -> Iterator[str]:
        """Paths relative to `folder` where they can be: the same wherever the table lies."""
        return (_listed(path, self.folder) for path in self.image_path)

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
    listed_in: Iterable[str] | None = None,
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
    listed = None if listed_in is None else Packed(listed_in)
    where = functools.partial(_where, path, table.index, listed)
    found = {ours: _column(table, ours, columns[ours], path) for ours in COLUMNS}
    paths = _resolved(found['image_path'], root, columns['image_path'], where)
    case_id, patient_id, split = (Text(found[name]) for name in ('case_id', 'patient_id', 'split'))
    _check_unique(paths, columns['image_path'], where)
    _check_nested(case_id, patient_id, where)
    announcements: tuple[str, ...] = ()
    if split_seed is not None and columns['split'] not in table:
        split, announcements = _made_split(found, split_seed, path, columns['split'])
    elif split_seed is not None and (unsplit := int((split == '').sum())) > 0:
        announcements = (f'{path}: {unsplit} rows have no split and are not used',)
    if (every := split == ALL).any() and not every.all():
        first = int(np.flatnonzero(every)[0])
        raise InputError(f'{where(first)}: a split may not be called {ALL!r}: that means all rows')
    for what, ids in (('patient', patient_id), ('case', case_id)):
        _check_leak(ids, split, what, where)
    ours = [columns[name] for name in COLUMNS]
    further = {name: compact(chunked(table[name])) for name in table.columns if name not in ours}
    return Manifest(
        path=path,
        image_path=Packed(paths),
        case_id=case_id,
        patient_id=patient_id,
        label=Text(found['label']),
        split=split,
        further=frame(further, pd.RangeIndex(len(table))),
        lines=table.index,
        announcements=announcements,
        listed_in=listed,
        folder=folder,
    )


def _where(path: str, lines: pd.Index, listed_in: Packed | None, row: int) -> str:
    return f'{path} row {lines[row]}' if listed_in is None else f'{path}: {listed_in[row]}'


def _made_split(
    found: Mapping[str, pa.ChunkedArray], seed: int, path: str, column: str
) -> tuple[Text, tuple[str, ...]]:
    names = ('image_path', 'case_id', 'patient_id')
    split = splits.seeded_split(splits.unit_names(*(np.asarray(found[n]) for n in names)), seed)
    counts = ', '.join(f'{name} {(split == name).sum()}' for name in splits.NAMES)
    line = (
        f'{path} has no column {column!r}: split by patient (by case or image where none is known) '
        f'with seed {seed}: {counts} images'
    )
    return Text(split), (line,)


def _column(table: pd.DataFrame, ours: str, theirs: str, path: str) -> pa.ChunkedArray:
    if theirs in table:
        return chunked(table[theirs])
    if ours == 'image_path' or theirs != ours:
        found = ', '.join(table.columns)
        hint = '' if theirs != ours else f' (rename it by --config.dataset.columns.{ours}=NAME)'
        raise InputError(f'{path}: no column {theirs!r}{hint}; columns found: {found}')
    return pa.chunked_array([pa.repeat('', len(table))])


def _resolved(
    paths: pa.ChunkedArray, root: str | None, column: str, where: Callable[[int], str]
) -> pa.ChunkedArray:
    if root is None:
        return paths
    folder = str(epath.Path(root) / 'x').removesuffix('x')  # what a name in it begins with

    def resolved(row: int, value: str) -> str:
        if not value:
            raise InputError(f'{where(row)}: column {column!r} is empty')
        inside = os.path.normpath(value)
        if is_remote(value):
            return value
        if os.path.isabs(value):
            return inside
        if inside == '..' or inside.startswith('../'):
            raise InputError(
                f'{where(row)}: {column} {value!r} climbs out of {root} '
                '(use an absolute path or --config.dataset.image_root)'
            )
        return f'{folder}{inside}' if inside != '.' else str(epath.Path(root))

    return chunked(itertools.starmap(resolved, enumerate(strings(paths))))


def _listed(path: str, folder: str | None) -> str:
    if folder is None or is_remote(path) != is_remote(folder):
        return path
    inside = path.removeprefix(f'{folder}/')
    is_inside = inside != path or folder == '.'
    if is_inside and inside == os.path.normpath(inside) and not inside.startswith(('/', '..')):
        return inside  # as relpath says too, more slowly
    return os.path.relpath(path, folder)


def _check_unique(paths: pa.ChunkedArray, column: str, where: Callable[[int], str]) -> None:
    first = _first_alike(codes(paths))
    if len(again := np.flatnonzero(first != np.arange(len(first)))):
        row = int(again[0])
        path = paths[row].as_py()
        raise InputError(f'{where(row)}: {column} {path!r} is also in {where(first[row])}')


def _check_nested(cases: Text, patients: Text, where: Callable[[int], str]) -> None:
    for row, first in _disagreeing(cases, patients, cases != ''):
        raise InputError(
            f'{where(row)}: case {cases[row]!r} belongs to patient {patients[row]!r}, but to '
            f'{patients[first]!r} in {where(first)}; a case id must mean one case in the whole '
            'table'
        )


def _check_leak(ids: Text, splits: Text, what: str, where: Callable[[int], str]) -> None:
    for row, first in _disagreeing(ids, splits, (ids != '') & (splits != '')):
        raise InputError(
            f'{where(row)}: {what} {ids[row]!r} is in split {splits[row]!r}, but in '
            f'{splits[first]!r} in {where(first)}; a {what} may be in one split only'
        )


def _disagreeing(
    ids: Text, values: Text, known: Bool[np.ndarray, ' n']
) -> Iterator[tuple[int, int]]:
    """Those `known` rows whose value is not that of the first with their id, and that first one."""
    rows, numbers = np.flatnonzero(known), values.codes()
    first = rows[_first_alike(ids.codes()[rows])]
    differ = numbers[rows] != numbers[first]
    yield from zip(rows[differ], first[differ])


def _first_alike(codes: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' n']:
    """The first row that has the code of each row."""
    first = np.zeros(codes.max(initial=-1) + 1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several the last is kept
    return first[codes]
