"""From published tables to the rows of a `Listing`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from big_ssl.data.manifest import SEPARATOR, UNCERTAIN
from big_ssl.data.sources.published import LISTED_IN, Listing
from big_ssl.data.sources.raw_folder import RawFolder
from big_ssl.data.splits import seeded_split, unit_names
from big_ssl.data.tables import read_table
from big_ssl.errors import InputError

_FIRST = ('image_path', 'case_id', 'patient_id', 'label', LISTED_IN, 'split')
_NEGATIVE, _POSITIVE, _UNCERTAIN = 0, 1, -1
_SEED, _SHARE = 0, 0.125  # of the training images that become `val`


def read(
    path: str,
    needed: Sequence[str],
    further: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Columns of a published table, and `LISTED_IN`.

    Args:
      path: as `read_table` takes it.
      needed: columns that must be there, as published.
      further: name in the result → published name of columns that may be missing, and are empty
        then.
      names: other published names → the ones meant by `needed` and `further`.

    Raises:
      InputError: as `read_table`, or a column is missing.
    """
    table = read_table(path).astype(object)
    found = ', '.join(table.columns)
    table = table.rename(columns=dict(names or {}))
    for name in needed:
        if name not in table:
            raise InputError(f'{path}: no column {name!r}; columns found: {found}')
    optional = {ours: table.get(theirs, '') for ours, theirs in (further or {}).items()}
    where = [f'{path} row {number}' for number in table.index]
    return table[[*needed]].assign(**optional, **{LISTED_IN: where})


def converted(table: pd.DataFrame, column: str, convert: Callable[[str], Any]) -> pd.Series:
    """A column of a table that was `read`, each of its values converted.

    Raises:
      InputError: `convert` raised a `ValueError`, whose text follows the value.
    """
    known = {}
    for text in table[column].unique():
        try:
            known[text] = convert(text)
        except ValueError as error:
            where = table.loc[table[column] == text, LISTED_IN].iloc[0]
            raise InputError(f'{where}: {column} {text!r} {error}') from None
    return table[column].map(known)


def one_of(*allowed: str) -> Callable[[str], str]:
    """For `converted`: the value, which must be one of these or empty."""

    def convert(text: str) -> str:
        if text and text not in allowed:
            raise ValueError(f'is none of {", ".join(allowed)}')
        return text

    return convert


def findings(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Labels of columns that hold 1 (present), 0 (absent), -1 (uncertain) or nothing.

    Nothing means "not mentioned" and counts as absent; a row without any finding is '|'.
    """
    values = np.stack([converted(table, name, _finding).to_numpy(np.int8) for name in columns], 1)
    patterns, inverse = np.unique(values, axis=0, return_inverse=True)
    mark = {_POSITIVE: '', _UNCERTAIN: UNCERTAIN}
    labels = [
        SEPARATOR.join(name + mark[value] for name, value in zip(columns, row) if value in mark)
        or SEPARATOR
        for row in patterns.tolist()
    ]
    return np.array(labels, dtype=object)[inverse.ravel()]


def _finding(text: str) -> int:
    if text in ('', '0', '0.0'):
        return _NEGATIVE
    if text in ('1', '1.0'):
        return _POSITIVE
    if text in ('-1', '-1.0'):
        return _UNCERTAIN
    raise ValueError('is none of 1.0, 0.0, -1.0 and empty')


def one_hot(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """The name of the column that holds 1; '' where none does.

    Raises:
      InputError: a row has two, or something besides 1 and 0.
    """
    flags = np.stack([converted(table, name, _flag).to_numpy(bool) for name in columns], 1)
    if (several := flags.sum(axis=1) > 1).any():
        row = int(several.argmax())
        names = ' and '.join(name for name, flag in zip(columns, flags[row]) if flag)
        raise InputError(f'{table[LISTED_IN].iloc[row]}: {names} are both 1')
    names = np.array(columns, dtype=object)[flags.argmax(axis=1)]
    return np.where(flags.any(axis=1), names, '')


def _flag(text: str) -> bool:
    if text not in ('', '0', '0.0', '1', '1.0'):
        raise ValueError('is neither 1.0 nor 0.0')
    return text in ('1', '1.0')


def looked_up(keys: pd.Series, table: pd.DataFrame, key: str, column: str) -> pd.Series:
    """What another table has in `column` where its `key` is one of `keys`; '' where it has none."""
    return keys.map(dict(zip(table[key], table[column]))).astype(object).fillna('')


def listing(raw: RawFolder, parts: Sequence[pd.DataFrame]) -> Listing:
    """The images of several tables that are there.

    Left out and announced are rows with an empty `image_path`. Further columns without any value
    are dropped. Of `train` and `test` without `val`, an eighth of `train` becomes `val`, announced;
    where there is `train` alone, no split is given.

    Args:
      raw: the folder, with its announcements.
      parts: tables with the columns of a `Listing`.

    Raises:
      InputError: none of the images is there.
    """
    for part in parts:
        if absent := int((part['image_path'] == '').sum()):
            raw.announcements.append(
                f'{absent} of {len(part)} images named in {_files(part)} are not in {raw.path}: '
                'left out'
            )
    table = pd.concat(parts, ignore_index=True).astype(object).fillna('')
    if not (there := table['image_path'] != '').any():
        raise raw.lacks(f'none of the images named in {_files(table)}')
    table = table[there]
    if 'split' in table:
        table = _with_validation(table, raw)
    further = [name for name in table if name not in _FIRST and (table[name] != '').any()]
    table = table[[name for name in _FIRST if name in table] + further]
    return Listing(table.reset_index(drop=True), tuple(raw.announcements))


def _files(table: pd.DataFrame) -> str:
    return ', '.join(table[LISTED_IN].str.rsplit(' row ', n=1).str[0].unique())


def _with_validation(table: pd.DataFrame, raw: RawFolder) -> pd.DataFrame:
    names = set(table['split']) - {''}
    if 'val' in names or 'train' not in names:
        return table
    if names == {'train'}:
        raw.announcements.append(
            f'{raw.path}: all images are of the published training part: no split is taken over'
        )
        return table.drop(columns='split')
    columns = ('image_path', 'case_id', 'patient_id')
    unit = unit_names(*(table[name].to_numpy(object) for name in columns))
    train = (table['split'] == 'train').to_numpy()
    split = table['split'].to_numpy(copy=True)
    split[train] = seeded_split(unit[train], _SEED, (1 - _SHARE, _SHARE, 0))
    raw.announcements.append(
        f'{raw.path}: train and test are published, no validation: {(split == "val").sum()} of '
        f'{train.sum()} training images became val, by patient (by case or image where none is '
        f'known) with seed {_SEED}'
    )
    return table.assign(split=split)
