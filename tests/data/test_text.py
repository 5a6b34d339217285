import gc
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from big_ssl.data import text
from big_ssl.data.text import Packed, Text, chunked, compact, frame

WORD = st.text(st.characters(codec='utf-8'), max_size=4)
REPEATED = st.lists(st.sampled_from(['', 'nevus', 'nevoid', 'é', 'éè']), max_size=60)
PATHS = st.lists(WORD.map('/data/größe/{}'.format), max_size=20)
STRINGS = st.one_of(st.lists(WORD, max_size=20), REPEATED, PATHS)


def as_array(values):
    found = np.empty(len(values), object)
    found[:] = values
    return found


@settings(deadline=None)
@pytest.mark.parametrize('kind', [Text, Packed])
@given(values=STRINGS | st.lists(WORD, min_size=60, max_size=200), data=st.data())
def test_a_column_is_read_like_an_array_of_strings(kind, values, data):
    column, array = kind(values), as_array(values)
    assert len(column) == len(values)
    assert column.tolist() == list(column) == np.asarray(column).tolist() == values
    rows = st.lists(st.integers(-len(values), len(values) - 1), max_size=8)
    some = np.array(data.draw(rows) if values else [], np.int64)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    for key in (some, some[:, None], some.astype(np.int32), mask.astype(bool), slice(None),
                data.draw(st.slices(len(values)))):  # fmt: skip
        found = column[key]
        assert found.dtype == object and found.shape == array[key].shape
        assert found.tolist() == array[key].tolist()
        assert all(type(value) is str for value in found.ravel())
    for row in some:
        assert column[row] == column[int(row)] == array[row] and type(column[row]) is str


@settings(deadline=None)
@given(STRINGS, WORD)
def test_each_row_is_compared_with_one_string(values, word):
    column = Text(values)
    for value in {word, '', '/data/größe/', *values[:5], *(value[:-1] for value in values[:5])}:
        assert (column == value).tolist() == [one == value for one in values]
        assert (column != value).tolist() == [one != value for one in values]
    assert (column == 1).tolist() == [False] * len(values)


@settings(deadline=None)
@given(STRINGS)
def test_codes_count_distinct_strings_by_first_appearance(values):
    codes = Text(values).codes()
    distinct = list(dict.fromkeys(values))
    assert codes.tolist() == [distinct.index(value) for value in values]
    assert codes.dtype == np.int64


@settings(deadline=None)
@given(STRINGS)
def test_from_lists_arrays_series_columns_and_generators(values):
    series = pd.Series(values, dtype=object)
    held = frame({'a': chunked(values)}, series.index)['a']
    packed = frame({'a': compact(chunked(values))}, series.index)['a']
    assert packed.tolist() == held.tolist() == values
    for same in (tuple(values), as_array(values), series, held, chunked(values), iter(values)):
        assert Text(same).tolist() == values
    for same in (as_array(values), series, held, chunked(values), iter(values)):
        assert Packed(same).tolist() == values


@pytest.mark.parametrize('distinct', [1, 127, 128, 129, 32768, 32769])
def test_as_many_distinct_strings_as_small_numbers_count(distinct):
    """At the ends of 8 and 16 bits, and with rows read in pieces."""
    values = [f'patient {i % distinct}' for i in range(3 * distinct + 20_000)]
    column = Text(values)
    assert column.tolist() == list(column) == values
    assert column[np.arange(len(values))[::-1]].tolist() == values[::-1]
    assert (column == values[-1]).nonzero()[0].tolist() == [
        i for i, value in enumerate(values) if value == values[-1]
    ]
    assert (column.codes() == np.arange(len(values)) % distinct).all()


@pytest.mark.parametrize('values', [['a', 'b'] * 50, [f'x{i}' for i in range(100)]])
def test_columns_longer_than_offsets_of_32_bits(monkeypatch, values):
    monkeypatch.setattr(text, '_LONG', 10)
    held = compact(chunked(values))
    assert getattr(held, 'dictionary', held).type == pa.large_string()
    column = Text(values)
    assert column.tolist() == values and column[np.array([1])].tolist() == [values[1]]
    assert (column == values[1]).sum() == values.count(values[1])


@pytest.mark.parametrize('kind', [Text, Packed])
def test_rows_that_are_not_there(kind):
    for values in (['a', 'b', 'c'], ['same'] * 100):
        column = kind(values)
        for row in (len(values), np.array([0, len(values)]), -len(values) - 1,
                    np.array([-len(values) - 1]), np.ones(len(values) + 1, bool)):  # fmt: skip
            with pytest.raises(IndexError):
                column[row]


def test_equal_strings_of_a_long_answer_are_one_object():
    found = Text([f'class {i % 3}' for i in range(1000)])[:]
    assert len({id(value) for value in found}) == 3


@pytest.mark.parametrize(
    ('values', 'limit'),
    [
        (['nevus', 'melanoma'] * 10_000, 1),
        ([f'patient_{i // 3:06d}' for i in range(30_000)], 10 / 3 + 4),
        ([f'/long/folder/of/everything/{i:08d}.png' for i in range(30_000)], 8 + 4 + 4),
    ],
)
def test_bytes_a_row(values, limit):
    """A number of one byte; a third of a string and a number of two; what follows the folder."""
    before = pa.total_allocated_bytes()
    column = Text(values)
    assert pa.total_allocated_bytes() - before <= limit * len(values) + 1000
    assert column.tolist() == values


def test_bytes_a_packed_row():
    """The numbers alone, of six digits, would have three."""
    values = [f'/long/folder/of/everything/patient_{i // 3:06d}/{i:08d}.png' for i in range(30_000)]
    tracemalloc.start()
    try:
        column = Packed(values)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= 10 * len(values)
    assert column[np.array([29_999, 0, 31, 32])].tolist() == [values[i] for i in (-1, 0, 31, 32)]
