"""Tables as people have them (CSV, TSV, Parquet; gzipped too), as strings without surprises.

Every field is a stripped string and an empty one means "not known". The index is the number of the
row as a message names it: a text file's header is row 1, a Parquet file's first row is row 1.
"""

import collections
import csv
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import PurePath

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from big_ssl.errors import InputError

_DELIMITERS = {'.tsv': '\t', '.tab': '\t'}
_PARQUET = ('.parquet', '.pq')


def read_table(path: str) -> pd.DataFrame:
    """Reads a table; rows without any field are left out, the index still counts them.

    Args:
      path: local or anything `etils.epath` opens. `.parquet` and `.pq` are Parquet, `.tsv` and
        `.tab` are separated by tabs; any other is separated by commas, or where its first line has
        none by semicolons or tabs. UTF-8, with or without a byte order mark; `.gz` is unpacked.

    Returns:
      a frame of strings.

    Raises:
      InputError: the file is missing, empty or damaged, or rows and header do not fit.
    """
    try:
        data = epath.Path(path).read_bytes()
        name = PurePath(path)
        if name.suffix.lower() == '.gz':
            data, name = gzip.decompress(data), name.with_suffix('')
    except FileNotFoundError:
        raise InputError(f'{path}: no such file') from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f'{path}: cannot be read: {_one_line(error)}') from None
    parquet = name.suffix.lower() in _PARQUET
    table = _parquet(data, path) if parquet else _text(data, path, name.suffix.lower())
    table = table.loc[(table != '').any(axis=1), [name != '' for name in table.columns]]
    if not len(table):
        raise InputError(f'{path}: a header and no rows')
    return table


def _text(data: bytes, path: str, suffix: str) -> pd.DataFrame:
    once = dict[str, str]().setdefault  # equal fields are one object
    try:
        text = io.TextIOWrapper(io.BytesIO(data), 'utf-8-sig', newline='')
        delimiter = _DELIMITERS.get(suffix) or _delimiter(text.readline())
        text.seek(0)
        lines = csv.reader(text, strict=True, delimiter=delimiter)
        rows = [[once(value := field.strip(), value) for field in row] for row in lines]
    except (csv.Error, UnicodeDecodeError) as error:
        kind = 'TSV' if suffix in _DELIMITERS else 'CSV'
        reason = _one_line(error)
        raise InputError(f'{path}: cannot be read as {kind} in UTF-8: {reason}') from None
    if not any(map(any, rows)):
        raise InputError(f'{path}: the file is empty')
    header, *rows = rows
    _check_names(header, f'{path} row 1')
    for number, row in enumerate(rows, start=2):
        if any(row[len(header) :]):
            raise InputError(
                f'{path} row {number}: {len(row)} fields, but the header has {len(header)}'
            )
        row[:] = (row + [''] * len(header))[: len(header)]
    return pd.DataFrame(rows, columns=header, index=range(2, len(rows) + 2), dtype=object)


def _check_names(names: Sequence[str], where: str) -> None:
    if twice := [name for name, count in collections.Counter(names).items() if name and count > 1]:
        raise InputError(f'{where}: column {twice[0]!r} is there twice')


def _delimiter(header: str) -> str:
    """A comma, unless the header has none and has semicolons or tabs."""
    return next((mark for mark in ',;\t' if mark in header), ',')


def _parquet(data: bytes, path: str) -> pd.DataFrame:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f'{path}: cannot be read as Parquet: {_one_line(error)}') from None
    names = [name.strip() for name in table.column_names]
    _check_names(names, path)
    columns = {}
    for name, column in zip(names, table.columns):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            text = column.cast(pa.string()).to_pylist()
        except pa.ArrowException:
            raise InputError(
                f'{path}: column {name!r} is {column.type}, not text or numbers'
            ) from None
        if pa.types.is_floating(column.type):
            text = [_number(*pair) for pair in zip(column.to_pylist(), text)]
        columns[name] = ['' if value is None else value.strip() for value in text]
    return pd.DataFrame(columns, index=range(1, table.num_rows + 1), dtype=object)


def _number(value: float | None, text: str | None) -> str | None:
    """A whole number without point and exponent (an id, in a column with gaps); NaN is none."""
    if value is None or math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else text


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
