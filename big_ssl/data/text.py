"""Columns of strings in little memory, for tables of millions of rows.

Arrow holds them, not Python. Where it is smaller, the distinct strings of a column stand once and
each row is a small number.
"""

import abc
import itertools
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

_AT_ONCE = 2**14  # strings that are Python's own while a column is walked through
_DEFLATED = 32  # strings in one piece: 6 to 8 microseconds to read one
_LONG = 2**31  # bytes of a column, from which on Arrow's offsets have 64 bits

# Arrow's own allocator keeps far more of what columns took while they were read.
pa.set_memory_pool(pa.system_memory_pool())


class Column(abc.ABC):
    """Strings that never change and are read like a NumPy array of them: `column[row]` is a string
    and `column[rows]` an object array."""

    _length: int

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, rows: int | np.integer) -> str: ...
    @overload
    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray: ...
    def __getitem__(self, rows: Any) -> Any:
        return self._one(rows) if isinstance(rows, int | np.integer) else self._some(rows)

    @abc.abstractmethod
    def __iter__(self) -> Iterator[str]: ...

    @abc.abstractmethod
    def _one(self, row: int | np.integer) -> str: ...

    @abc.abstractmethod
    def _some(self, rows: slice | np.ndarray) -> np.ndarray: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or object, copy=False)

    def tolist(self) -> list[str]:
        """All strings."""
        return self[:].tolist()


class Text(Column):
    """Where strings repeat, each row is a small number; `==` and `!=` compare each row with one
    string. What all strings begin with, such as the folder of image paths, stands once.
    """

    def __init__(self, values: Iterable[str]) -> None:
        held = compact(chunked(values))
        coded = isinstance(held, pa.DictionaryArray)
        self._length = len(held)
        self._codes = held.indices.to_numpy() if coded else None  # each row's place in _strings
        self._prefix, self._strings = _without_prefix(held.dictionary if coded else held)

    def _one(self, row: int | np.integer) -> str:
        place = row if self._codes is None else self._codes[row]
        return self._prefix + self._strings[int(place)].as_py()

    def _some(self, rows: slice | np.ndarray) -> np.ndarray:
        places = _numbers(rows, len(self)) if self._codes is None else self._codes[rows]
        if self._codes is not None and len(self._strings) < places.size:
            return self._python(self._strings)[places]  # equal strings are one object
        return self._python(self._strings.take(pa.array(places.ravel()))).reshape(places.shape)

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self[start : start + _AT_ONCE].tolist()

    def __eq__(self, value: object) -> Bool[np.ndarray, ' n']:  # type: ignore[override]
        if not isinstance(value, str) or not value.startswith(self._prefix):
            return np.zeros(len(self), bool)
        equal = pc.equal(self._strings, value.removeprefix(self._prefix))
        found = equal.to_numpy(zero_copy_only=False)
        return found if self._codes is None else found[self._codes]

    def __ne__(self, value: object) -> Bool[np.ndarray, ' n']:  # type: ignore[override]
        return ~(self == value)

    def codes(self) -> Int[np.ndarray, ' n']:
        """0, 1, 2 … for the distinct strings in order of their first appearance, int64."""
        if self._codes is not None:
            return self._codes.astype(np.int64)
        return codes(pa.chunked_array([self._strings]))

    def _python(self, strings: pa.Array) -> np.ndarray:
        found = strings.to_numpy(zero_copy_only=False)
        return self._prefix + found if self._prefix else found


class Packed(Column):
    """Long strings, such as paths, which are read one at a time or all in turn, in a fifth of their
    bytes (deflated)."""

    def __init__(self, values: Iterable[str]) -> None:
        self._pieces: list[bytes] = []
        self._length = 0
        for part in _parts(strings(chunked(values)), _DEFLATED):
            self._pieces.append(zlib.compress(json.dumps(part, ensure_ascii=False).encode()))
            self._length += len(part)

    def _one(self, row: int | np.integer) -> str:
        piece, place = divmod(range(self._length)[row], _DEFLATED)
        return self._piece(piece)[place]

    def _some(self, rows: slice | np.ndarray) -> np.ndarray:
        numbers = _numbers(rows, self._length)
        if numbers.size and not -1 < numbers.min() <= numbers.max() < self._length:
            raise IndexError(f'a row that is not among {self._length}')
        found, at = np.empty(numbers.size, object), numbers.ravel()
        in_order = np.argsort(at, kind='stable').tolist()
        for piece, places in itertools.groupby(in_order, lambda place: at[place] // _DEFLATED):
            held = self._piece(piece)
            for place in places:
                found[place] = held[at[place] % _DEFLATED]
        return found.reshape(numbers.shape)

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(map(self._piece, range(len(self._pieces))))

    def _piece(self, number: int) -> list[str]:
        return json.loads(zlib.decompress(self._pieces[number]))


def chunked(values: Iterable[str]) -> pa.ChunkedArray:
    """Strings as Arrow's, which are not copied where they are that already."""
    if isinstance(values, pd.Series | np.ndarray):
        found = pa.array(values, pa.string())
        return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])
    if isinstance(values, pa.ChunkedArray):
        return values
    parts = _parts(values, _AT_ONCE)
    return pa.chunked_array([pa.array(part, pa.string()) for part in parts], pa.string())


def strings(column: pa.ChunkedArray) -> Iterator[str]:
    """One after the other, as Python's."""
    for start in range(0, len(column), _AT_ONCE):
        yield from column.slice(start, _AT_ONCE).to_pylist()


def compact(column: pa.ChunkedArray) -> pa.Array:
    """The same strings in one piece: as they are, or as a dictionary where that is smaller.

    The strings of the dictionary are in order of their first appearance.
    """
    column = _with_long_offsets(column)
    coded = column.dictionary_encode().combine_chunks()
    numbers = coded.indices.cast(_smallest(len(coded.dictionary)))
    if numbers.nbytes + coded.dictionary.nbytes < column.nbytes:
        return pa.DictionaryArray.from_arrays(numbers, coded.dictionary)
    return column.combine_chunks()


def codes(column: pa.ChunkedArray) -> Int[np.ndarray, ' n']:
    """0, 1, 2 … for the distinct strings in order of their first appearance, int64."""
    coded = _with_long_offsets(column).dictionary_encode().combine_chunks()
    return coded.indices.to_numpy().astype(np.int64)


def frame(columns: Mapping[str, pa.Array | pa.ChunkedArray], index: pd.Index) -> pd.DataFrame:
    """A frame of strings that Arrow holds."""
    held = {name: pd.arrays.ArrowExtensionArray(column) for name, column in columns.items()}
    return pd.DataFrame(held, index=index, columns=pd.Index([*columns], dtype=str))


def give_back() -> None:
    """Gives the machine what reading tables took and left free: more than what is held."""
    pa.default_memory_pool().release_unused()


def _parts(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """So many at a time, and then the rest."""
    rest = iter(values)
    return iter(lambda: list(itertools.islice(rest, size)), [])


def _numbers(rows: slice | np.ndarray, length: int) -> Int[np.ndarray, '*k']:
    """Row numbers from 0 on, of rows in any way that NumPy takes."""
    if isinstance(rows, slice):
        return np.fromiter(range(*rows.indices(length)), np.int64)
    if rows.dtype == bool:
        return np.arange(length)[rows]
    return np.where(rows < 0, rows + length, rows)


def _with_long_offsets(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where it has to be one piece, and needs them."""
    return column.cast(pa.large_string()) if column.nbytes >= _LONG else column


def _smallest(count: int) -> pa.DataType:
    """The smallest signed integers for 0 to count - 1."""
    kinds = {2**7: pa.int8(), 2**15: pa.int16(), 2**31: pa.int32()}
    return next((kind for end, kind in kinds.items() if count <= end), pa.int64())


def _without_prefix(strings: pa.Array) -> tuple[str, pa.Array]:
    """What all strings begin with, and what follows it."""
    if not len(strings):
        return '', strings
    extremes = pc.min_max(strings).as_py()
    prefix = os.path.commonprefix([extremes['min'], extremes['max']])
    return prefix, pc.utf8_slice_codeunits(strings, len(prefix)) if prefix else strings
