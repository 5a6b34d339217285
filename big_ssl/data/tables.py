"""Tables as people have them (CSV, TSV, Parquet; gzipped too), as strings without surprises.

Every field is a stripped string and an empty one means "not known". The index is the number of the
row as a message names it: a text file's header is row 1, a Parquet file's first row is row 1.
"""

import collections
import csv
import gzip
import io
import itertools
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from etils import epath
from jaxtyping import Bool

from big_ssl.data import text
from big_ssl.data.integers import narrow
from big_ssl.errors import InputError

_DELIMITERS = {'.tsv': '\t', '.tab': '\t'}
_PARQUET = ('.parquet', '.pq')
_ROWS_AT_ONCE = 2**14  # that are Python's own while a table is read


def read_table(path: str) -> pd.DataFrame:
    """Reads a table; rows without any field are left out, the index still counts them.

    Args:
      path: local or anything `etils.epath` opens. `.parquet` and `.pq` are Parquet, `.tsv` and
        `.tab` are separated by tabs; any other is separated by commas, or where its first line has
        none by semicolons or tabs. UTF-8, with or without a byte order mark; `.gz` is unpacked.

    Returns:
      a frame of strings that Arrow holds.

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
    if name.suffix.lower() in _PARQUET:
        table, first = _parquet(data, path), 1
    else:
        table, first = _text(data, path, name.suffix.lower()), 2
    filled = _filled(table)
    if not filled.any():
        raise InputError(f'{path}: a header and no rows')
    index: pd.Index = pd.RangeIndex(first, first + len(filled))
    if not filled.all():
        table, index = table.filter(filled), pd.Index(narrow(first + np.flatnonzero(filled)))
    named = {name: column for name, column in zip(table.column_names, table.columns) if name}
    return text.frame(named, index)


def _text(data: bytes, path: str, suffix: str) -> pa.Table:
    file = io.TextIOWrapper(io.BytesIO(data), 'utf-8-sig', newline='')
    parts, number, surplus = [], 2, None
    try:
        delimiter = _DELIMITERS.get(suffix) or _delimiter(file.readline())
        file.seek(0)
        lines = csv.reader(file, strict=True, delimiter=delimiter)
        header = [field.strip() for field in next(lines, [])]
        while rows := list(itertools.islice(lines, _ROWS_AT_ONCE)):
            surplus = surplus or _surplus(rows, len(header), number)
            parts.append(_part(rows, header))
            number += len(rows)
    except (csv.Error, UnicodeDecodeError) as error:
        kind = 'TSV' if suffix in _DELIMITERS else 'CSV'
        reason = _one_line(error)
        raise InputError(f'{path}: cannot be read as {kind} in UTF-8: {reason}') from None
    table = pa.concat_tables(parts or [_part([], header)])
    if not any(header) and not surplus and not _filled(table).any():
        raise InputError(f'{path}: the file is empty')
    _check_names(header, f'{path} row 1')
    if surplus:
        raise InputError(f'{path} row {surplus}, but the header has {len(header)}')
    return table


def _part(rows: Sequence[Sequence[str]], header: Sequence[str]) -> pa.Table:
    """Some rows, cut or filled up to the columns of the header."""
    columns = [_stripped(column) for column in itertools.zip_longest(*rows, fillvalue='')]
    missing = [pa.repeat('', len(rows))] * (len(header) - len(columns))
    return pa.Table.from_arrays((columns + missing)[: len(header)], header)


def _surplus(rows: Sequence[Sequence[str]], width: int, number: int) -> str | None:
    """Number and length of the first row with a field beyond the header's; row 0 has `number`."""
    for i, row in enumerate(rows, start=number):
        if len(row) > width and any(map(str.strip, row[width:])):
            return f'{i}: {len(row)} fields'
    return None


def _stripped(values: Iterable[str]) -> pa.Array:
    return pa.array([value.strip() for value in values], pa.string())


def _filled(table: pa.Table) -> Bool[np.ndarray, ' rows']:
    """Which rows have any field."""
    filled = np.zeros(table.num_rows, bool)
    for column in table.columns:
        filled |= pc.not_equal(column, '').to_numpy()
    return filled


def _check_names(names: Sequence[str], where: str) -> None:
    if twice := [name for name, count in collections.Counter(names).items() if name and count > 1]:
        raise InputError(f'{where}: column {twice[0]!r} is there twice')


def _delimiter(header: str) -> str:
    """A comma, unless the header has none and has semicolons or tabs."""
    return next((mark for mark in ',;\t' if mark in header), ',')


def _parquet(data: bytes, path: str) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f'{path}: cannot be read as Parquet: {_one_line(error)}') from None
    names = [name.strip() for name in table.column_names]
    _check_names(names, path)
    return pa.table([_as_text(*pair, path) for pair in zip(names, table.columns)], names)


def _as_text(name: str, column: pa.ChunkedArray, path: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        strings = column.cast(pa.string())
    except pa.ArrowException:
        raise InputError(f'{path}: column {name!r} is {column.type}, not text or numbers') from None
    parts = []
    for start in range(0, len(column), _ROWS_AT_ONCE):
        some = strings.slice(start, _ROWS_AT_ONCE).to_pylist()
        if pa.types.is_floating(column.type):
            numbers = column.slice(start, _ROWS_AT_ONCE).to_pylist()
            some = [_number(*pair) for pair in zip(numbers, some)]
        parts.append(_stripped(value or '' for value in some))
    return pa.chunked_array(parts, pa.string())


def _number(value: float | None, text: str | None) -> str | None:
    """A whole number without point and exponent (an id, in a column with gaps); NaN is none."""
    if value is None or math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else text


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
