import csv
import datetime
import decimal
import gzip
import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from big_ssl.data import tables
from big_ssl.data.tables import read_table
from big_ssl.errors import InputError

ROWS = {2: ['a.png', 'nevus, left', '7'], 3: ['b.png', 'x; y', '']}
MARK = b'\xef\xbb\xbf'


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def lines(table):
    """Index → fields, from an independent look at the frame."""
    assert all(isinstance(field, str) for row in table.to_numpy() for field in row)
    return {int(i): list(row) for i, row in zip(table.index, table.to_numpy())}


def complaint(path):
    """The message, which is one line and names the file."""
    with pytest.raises(InputError) as caught:
        read_table(path)
    message = str(caught.value)
    assert message.startswith(path) and '\n' not in message
    return message.removeprefix(path)


def parquet(columns):
    file = io.BytesIO()
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, file)
    return file.getvalue()


def delimited(mark):
    file = io.StringIO()
    csv.writer(file, delimiter=mark).writerows([['image_path', 'label', 'age'], *ROWS.values()])
    return file.getvalue().encode()


@pytest.mark.parametrize(
    ('name', 'mark'),
    [
        ('a.csv', ','), ('a.txt', ','), ('a', ','), ('a.csv', ';'), ('a.csv', '\t'),
        ('a.tsv', '\t'), ('a.tab', '\t'), ('A.TSV', '\t'),
    ],
)  # fmt: skip
@pytest.mark.parametrize('packed', [None, '.gz', '.GZ'])
@pytest.mark.parametrize('bom', [b'', MARK])
def test_text_with_each_delimiter(tmp_path, name, mark, packed, bom):
    content = bom + delimited(mark)
    name, content = (name + packed, gzip.compress(content)) if packed else (name, content)
    table = read_table(written(tmp_path / name, content))
    assert list(table.columns) == ['image_path', 'label', 'age'] and lines(table) == ROWS


@pytest.mark.parametrize(
    ('name', 'text', 'columns', 'row'),
    [
        ('a.csv', 'a;b,c\n1;2,3\n', ['a;b', 'c'], ['1;2', '3']),
        ('a.csv', 'a;b\tc\n1;2\t3\n', ['a', 'b\tc'], ['1', '2\t3']),
        ('a.tsv', 'a,b;c\td\n1,2;3\t4\n', ['a,b;c', 'd'], ['1,2;3', '4']),
        ('a.csv', 'path\n1;2\t3\n', ['path'], ['1;2\t3']),
    ],
)
def test_a_comma_in_the_first_line_wins_and_tsv_means_tabs(tmp_path, name, text, columns, row):
    table = read_table(written(tmp_path / name, text))
    assert list(table.columns) == columns and lines(table) == {2: row}


@pytest.mark.parametrize('name', ['a.csv', 'a.tsv', 'a.csv.gz'])
@pytest.mark.parametrize('bom', [b'', MARK])
@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'the file is empty'), ('\n\n', 'the file is empty'), ('a', 'a header and no rows'),
        ('a\n', 'a header and no rows'), ('a\n\n  \n', 'a header and no rows'),
        ('a\n1\n\xff', 'cannot be read as'),
    ],
)  # fmt: skip
def test_text_without_rows_or_not_in_utf_8(tmp_path, name, bom, text, expected):
    content = bom + text.encode('latin-1')
    content = gzip.compress(content) if name.endswith('.gz') else content
    assert expected in complaint(written(tmp_path / name, content))


@pytest.mark.parametrize('mark', [',', ';', '\t'])
def test_rows_are_counted_as_a_spreadsheet_counts_them(tmp_path, mark):
    text = 'a,b\n1,2\n\n , \n"3\n3",4\n5\n'.replace(',', mark)
    table = read_table(written(tmp_path / 'a.csv', text))
    assert lines(table) == {2: ['1', '2'], 5: ['3\n3', '4'], 6: ['5', '']}
    message = complaint(written(tmp_path / 'b.csv', text + '6,7,8\n'.replace(',', mark)))
    assert message == ' row 7: 3 fields, but the header has 2'


@pytest.mark.parametrize('at_once', range(1, 8))
def test_rows_read_piece_by_piece(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(tables, '_ROWS_AT_ONCE', at_once)
    text = 'a,b\n1,2\n\n , \n3\n4,5,,\n,6\n'
    expected = {2: ['1', '2'], 5: ['3', ''], 6: ['4', '5'], 7: ['', '6']}
    assert lines(read_table(written(tmp_path / 'a.csv', text))) == expected
    message = complaint(written(tmp_path / 'b.csv', text + '7,8,,9\n1,2,3\n'))
    assert message == ' row 8: 4 fields, but the header has 2'
    damaged = text + '7,8,9\n"1" 2,\n'
    assert 'cannot be read as CSV' in complaint(written(tmp_path / 'c.csv', damaged))
    content = parquet({'a': [1.5, None, 3.0, 4.25, None], 'b': ['x', ' ', None, 'y ', 'z']})
    expected = {1: ['1.5', 'x'], 3: ['3', ''], 4: ['4.25', 'y'], 5: ['', 'z']}
    assert lines(read_table(written(tmp_path / 'a.parquet', content))) == expected


@pytest.mark.parametrize(('name', 'mark'), [('a.csv', ','), ('a.tsv', '\t'), ('a.csv', ';')])
def test_a_column_that_is_there_twice(tmp_path, name, mark):
    text = 'a,b, a \n1,2,3\n'.replace(',', mark)
    assert complaint(written(tmp_path / name, text)) == " row 1: column 'a' is there twice"


@pytest.mark.parametrize('row', ['"1,2', '1,"2" x', '1,"2""'])
def test_quotes_that_do_not_fit_are_refused(tmp_path, row):
    assert 'cannot be read as CSV' in complaint(written(tmp_path / 'a.csv', f'a,b\n{row}\n3,4\n'))


def test_unnamed_columns_are_left_out(tmp_path):
    table = read_table(written(tmp_path / 'a.csv', ',a,,b\n0,1,,2\n'))
    assert list(table.columns) == ['a', 'b'] and lines(table) == {2: ['1', '2']}


def test_gzip_in_several_parts(tmp_path):
    content = delimited(',')
    parts = gzip.compress(content[:30]) + gzip.compress(content[30:])
    assert lines(read_table(written(tmp_path / 'a.csv.gz', parts))) == ROWS


def test_gzip_that_is_none(tmp_path):
    assert 'cannot be read' in complaint(written(tmp_path / 'a.csv.gz', delimited(',')))
    assert 'cannot be read' in complaint(
        written(tmp_path / 'b.csv.gz', gzip.compress(delimited(',')) + b'more')
    )


def test_gzip_cut_anywhere(tmp_path):
    content = gzip.compress(delimited(','))
    for end in range(1, len(content)):
        assert 'cannot be read' in complaint(written(tmp_path / 'a.csv.gz', content[:end]))
    assert 'the file is empty' in complaint(written(tmp_path / 'a.csv.gz', b''))


def test_gzip_damaged_anywhere_is_refused_or_says_the_same(tmp_path):
    content, refused = gzip.compress(delimited(','), mtime=0), 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x11
        try:
            table = read_table(written(tmp_path / 'a.csv.gz', bytes(damaged)))
        except InputError:
            refused += 1
        else:
            assert lines(table) == ROWS
    assert refused >= len(content) - 6  # time, flags and system say nothing of the content


DAY, HOUR = datetime.date(2020, 1, 31), datetime.datetime(2020, 1, 31, 5, 6)


@pytest.mark.parametrize(
    ('array', 'expected'),
    [
        (pa.array([7, -2, None, 2**62]), ['7', '-2', '', str(2**62)]),
        (pa.array([255, 0], pa.uint8()), ['255', '0']),
        (pa.array([7.0, None, 0.1, -2.5]), ['7', '', '0.1', '-2.5']),
        (pa.array([123456789012.0, 2.0**53 - 1]), ['123456789012', '9007199254740991']),
        (pa.array([0.1, 16777215.0], pa.float32()), ['0.1', '16777215']),
        (pa.array([float('nan'), 1.5]), ['', '1.5']),
        (pa.array([float('nan'), 1.5], pa.float32()), ['', '1.5']),
        (pa.array([float('nan'), 1.5], pa.float16()), ['', '1.5']),
        (pa.array(['nan', ' NA ', None, '  ', '007']), ['nan', 'NA', '', '', '007']),
        (pa.array(['x'], pa.large_string()), ['x']),
        (pa.array(['größe'], pa.string_view()), ['größe']),
        (pa.array([True, False, None]), ['true', 'false', '']),
        (pa.array([DAY, None]), ['2020-01-31', '']),
        (pa.array([HOUR], pa.timestamp('ms')), ['2020-01-31 05:06:00.000']),
        (pa.array([decimal.Decimal('1.50')]), ['1.50']),
        (pa.array([None, None]), ['', '']),
        (pa.array(['nv', None, 'mel', 'nv']).dictionary_encode(), ['nv', '', 'mel', 'nv']),
        (pa.array([b'text']), ['text']),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else '',
)
@pytest.mark.parametrize('name', ['a.parquet', 'a.PQ', 'a.parquet.gz'])
def test_parquet_columns_as_text(tmp_path, name, array, expected):
    content = parquet({'row': [f'r{i}' for i in range(len(array))], 'value': array})
    content = gzip.compress(content) if name.endswith('.gz') else content
    table = read_table(written(tmp_path / name, content))
    assert lines(table) == {i: [f'r{i - 1}', value] for i, value in enumerate(expected, start=1)}


def test_ids_that_pandas_made_floats_are_whole_numbers(tmp_path):
    """Ids with gaps become floats in pandas, and their gaps NaN."""
    frame = pd.DataFrame({'path': ['a', 'b', 'c'], 'patient_id': [12, None, 12]})
    frame.to_parquet(tmp_path / 'a.parquet')
    table = read_table(str(tmp_path / 'a.parquet'))
    assert lines(table) == {1: ['a', '12'], 2: ['b', ''], 3: ['c', '12']}


@pytest.mark.parametrize(
    'array',
    [
        pa.array([[1, 2]]),
        pa.array([{'x': 1}]),
        pa.array([[('x', 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([[1]], pa.list_(pa.int64(), 1)),
        pa.array([b'\xff\xfe']),
    ],
    ids=lambda array: str(array.type),
)
def test_parquet_columns_that_are_no_text_are_named(tmp_path, array):
    message = complaint(written(tmp_path / 'a.parquet', parquet({'fine': [1], 'odd': array})))
    assert message.startswith(": column 'odd' is ") and message.endswith(', not text or numbers')


def test_parquet_rows_are_counted_from_one_and_empty_ones_left_out(tmp_path):
    content = parquet({'a': ['', 'x', ' ', 'y'], 'b': [None, None, None, 3.0]})
    table = read_table(written(tmp_path / 'a.parquet', content))
    assert lines(table) == {2: ['x', ''], 4: ['y', '3']}


@pytest.mark.parametrize(
    'columns',
    [
        {'a': pa.array([], pa.string())},
        {'a': ['', None]},
        {},
    ],
)
def test_parquet_without_rows(tmp_path, columns):
    assert complaint(written(tmp_path / 'a.parquet', parquet(columns))) == ': a header and no rows'


def test_names_of_parquet_columns(tmp_path):
    table = read_table(written(tmp_path / 'a.parquet', parquet({' label ': ['x'], '': ['y']})))
    assert list(table.columns) == ['label'] and lines(table) == {1: ['x']}
    twice = parquet({'label': ['x'], 'label ': ['y']})
    assert complaint(written(tmp_path / 'b.parquet', twice)) == ": column 'label' is there twice"
    same = parquet(pa.table([pa.array(['x']), pa.array(['y'])], names=['label', 'label']))
    assert 'label' in complaint(written(tmp_path / 'c.parquet', same))


def test_parquet_cut_anywhere(tmp_path):
    content = parquet({'a': ['x', 'y']})
    for end in range(len(content)):
        message = complaint(written(tmp_path / 'a.parquet', content[:end]))
        assert 'cannot be read as Parquet' in message
    assert 'cannot be read as Parquet' in complaint(written(tmp_path / 'b.pq', delimited(',')))


FIELD = st.text(st.characters(codec='utf-8', exclude_characters='\0'), max_size=5)


@given(
    st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=6),
    st.sampled_from([',', ';', '\t']),
    st.sampled_from(['\n', '\r\n', '\r']),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_written_is_read(tmp_path_factory, rows, mark, end, packed):
    file = io.StringIO(newline='')
    quoting = csv.QUOTE_MINIMAL if end == '\r\n' else csv.QUOTE_ALL
    writer = csv.writer(file, delimiter=mark, lineterminator=end, quoting=quoting)
    writer.writerows([('a', 'b', 'c'), *rows])
    content = file.getvalue().encode()
    folder = tmp_path_factory.getbasetemp()
    stripped = [[field.strip() for field in row] for row in rows]
    expected = {i: row for i, row in enumerate(stripped, start=1) if any(row)}
    binary = parquet(dict(zip('abc', map(list, zip(*rows)))))
    text = written(folder / ('t.csv.gz' if packed else 't.csv'),
                   gzip.compress(content) if packed else content)  # fmt: skip
    if not expected:
        assert complaint(text) == ': a header and no rows'
        return
    assert lines(read_table(text)) == {i + 1: row for i, row in expected.items()}
    assert lines(read_table(written(folder / 't.parquet', binary))) == expected
