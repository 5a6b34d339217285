import collections
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from etils import epath

from big_ssl.data.manifest import checked, read_manifest
from big_ssl.data.splits import seeded_split
from big_ssl.errors import InputError
from tests.helpers import COLUMNS, HEADER, manifest_of, write_table

ROWS = [
    ('a.png', 'c1', 'p1', 'nevus', 'train'),
    ('b.png', 'c1', 'p1', 'nevus', 'train'),
    ('c.png', 'c2', 'p2', 'melanoma', 'val'),
    ('d.png', '', '', '', 'test'),
]


def read(tmp_path, text, **options):
    """The manifest of a file with exactly these characters or bytes."""
    path = tmp_path / 'table.csv'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_manifest(str(path), **{'columns': COLUMNS, **options})


def complaint(tmp_path, text, **options):
    """The message, which is one line and names the file."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, text, **options)
    message = str(caught.value)
    assert 'table.csv' in message and '\n' not in message
    return message


def text_of(rows, header=HEADER, end='\n'):
    return ''.join(','.join(row) + end for row in [header, *rows])


def test_columns_by_our_names(tmp_path):
    manifest = manifest_of(tmp_path, ROWS)
    assert manifest.image_path.tolist() == [str(tmp_path / row[0]) for row in ROWS]
    for i, name in enumerate(HEADER[1:], start=1):
        assert getattr(manifest, name).tolist() == [row[i] for row in ROWS]
    assert manifest.lines.tolist() == [2, 3, 4, 5]
    assert manifest.announcements == () and len(manifest) == 4
    assert list(manifest.further.columns) == []


def test_only_the_path_is_needed(tmp_path):
    manifest = read(tmp_path, 'image_path\na.png\nb.png\n')
    for name in ('case_id', 'patient_id', 'label'):
        assert getattr(manifest, name).tolist() == ['', '']


def test_columns_renamed_and_further_ones_kept(tmp_path):
    header = 'site,Datei,lesion,patient,dx,fold,age\n'
    columns = {
        'image_path': 'Datei', 'case_id': 'lesion', 'patient_id': 'patient', 'label': 'dx',
        'split': 'fold',
    }  # fmt: skip
    manifest = read(tmp_path, header + 'A,a.png,c,p,nv,train,07\n', columns=columns)
    assert manifest.image_path.tolist() == [str(tmp_path / 'a.png')]
    assert [getattr(manifest, name)[0] for name in HEADER[1:]] == ['c', 'p', 'nv', 'train']
    assert manifest.further.to_dict('list') == {'site': ['A'], 'age': ['07']}


@pytest.mark.parametrize('bom', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
def test_marks_and_line_ends(tmp_path, bom, end):
    manifest = read(tmp_path, bom + text_of(ROWS, end=end).encode())
    assert manifest.split.tolist() == ['train', 'train', 'val', 'test']


def test_last_line_without_an_end(tmp_path):
    assert len(read(tmp_path, text_of(ROWS).rstrip('\n'))) == 4


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('blank', ['', '   ', ',,,,', ' , ,'])
def test_blank_lines_count(tmp_path, end, blank):
    lines = text_of(ROWS, end='\n').splitlines()
    lines[2:2] = [blank, blank]
    manifest = read(tmp_path, end.join([*lines, blank, '']))
    assert manifest.lines.tolist() == [2, 5, 6, 7]
    assert manifest.where(1) == f'{tmp_path / "table.csv"} row 5'


def test_a_quoted_field_over_two_lines_is_one_row(tmp_path):
    text = 'image_path,note,split\na.png,"two\nlines",train\nb.png,x,train\nb.png,y,train\n'
    assert 'row 4: image_path' in complaint(tmp_path, text)


def test_quotes_commas_spaces_and_other_scripts(tmp_path):
    text = (
        ' image_path , case_id,"label",split\n'
        '"scan, left.png", ケース7 ,"a ""b"", c",train\n'
        'plot 2/größe é.jpg,дело,  d 5" e,train\n'
    )
    manifest = read(tmp_path, text)
    expected = [str(tmp_path / name) for name in ('scan, left.png', 'plot 2/größe é.jpg')]
    assert manifest.image_path.tolist() == expected
    assert manifest.case_id.tolist() == ['ケース7', 'дело']
    assert manifest.label.tolist() == ['a "b", c', 'd 5" e']


def test_nothing_is_taken_for_a_number_or_a_missing_value(tmp_path):
    manifest = read(tmp_path, text_of([('007.png', 'NA', '1.0', 'None', 'nan')]))
    fields = [getattr(manifest, name)[0] for name in HEADER[1:]]
    assert fields == ['NA', '1.0', 'None', 'nan']


def test_short_rows_end_in_unknown_fields(tmp_path):
    manifest = read(tmp_path, text_of([('a.png', 'c1'), ROWS[2]]))
    assert manifest.case_id.tolist() == ['c1', 'c2']
    assert manifest.label.tolist() == ['', 'melanoma']
    assert '1 rows have no split and are not used' in manifest.announcements[0]


@pytest.mark.parametrize('position', [0, 1, 3])
def test_long_rows(tmp_path, position):
    rows = [*ROWS]
    rows[position] = (*rows[position], 'surplus')
    message = complaint(tmp_path, text_of(rows))
    assert f'row {position + 2}: 6 fields, but the header has 5' in message


def test_surplus_commas_are_harmless(tmp_path):
    text = text_of([(*row, '', '') for row in ROWS], header=(*HEADER, ''))
    assert read(tmp_path, text).split.tolist() == ['train', 'train', 'val', 'test']


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('', 'the file is empty'),
        ('\n\n', 'the file is empty'),
        ('image_path,split\n', 'a header and no rows'),
        ('image_path,split\n\n,\n', 'a header and no rows'),
        ('path,split\na.png,train\n', "no column 'image_path' (rename it by "
         '--config.dataset.columns.image_path=NAME); columns found: path, split'),
        ('image_path,label, label\na.png,x,y\n', "row 1: column 'label' is there twice"),
        (text_of(ROWS).encode('utf-16'), 'cannot be read as CSV in UTF-8'),
        ('image_path\nä.png\n'.encode('latin-1'), 'cannot be read as CSV in UTF-8'),
        ('image_path,label\na.png,"x\nb.png,y\n', 'unexpected end of data'),
        ('image_path,label\na.png,x\n,y\n', "row 3: column 'image_path' is empty"),
        ('image_path\na.png\n\n./x/../a.png\n', 'row 4: image_path'),
    ],
)  # fmt: skip
def test_complaints(tmp_path, text, expected):
    assert expected in complaint(tmp_path, text)


def test_a_renamed_column_must_be_there(tmp_path):
    for ours in HEADER:
        columns = COLUMNS | {ours: 'other'}
        assert "no column 'other'; columns found: image_path, case_id" in complaint(
            tmp_path, text_of(ROWS), columns=columns
        )


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r'nowhere\.csv: no such file'):
        read_manifest(str(tmp_path / 'nowhere.csv'), columns=COLUMNS)
    with pytest.raises(InputError, match='cannot be read'):
        read_manifest(str(tmp_path), columns=COLUMNS)


@pytest.mark.parametrize('path', ['../a.png', 'x/../../a.png', '..', './..//a.png'])
def test_paths_may_not_climb(tmp_path, path):
    message = complaint(tmp_path, f'image_path\na.png\n{path}\n')
    assert f'row 3: image_path {path!r} climbs out of {tmp_path}' in message


def test_paths_below_the_folder_and_absolute_ones(tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    rows = ['x/../b.png', '..hidden.png', '...', f'{elsewhere}/../c.png', 'gs://bucket/d.png']
    manifest = read(tmp_path, '\n'.join(['image_path', *rows]))
    names = ['b.png', '..hidden.png', '...', 'c.png']
    assert manifest.image_path.tolist() == [
        *(str(tmp_path / name) for name in names), 'gs://bucket/d.png'
    ]  # fmt: skip
    other = read(tmp_path, 'image_path\na.png\n', image_root=str(elsewhere))
    assert other.image_path.tolist() == [str(elsewhere / 'a.png')]


@pytest.mark.parametrize(
    'again', ['a.png', './a.png', 'x/../a.png', 'FOLDER/a.png', 'FOLDER/./a.png']
)
def test_an_image_is_there_once(tmp_path, again):
    again = again.replace('FOLDER', str(tmp_path))
    message = complaint(tmp_path, f'image_path\na.png\nb.png\n{again}\n')
    assert re.search(r'row 4: image_path .*a\.png. is also in .*table\.csv row 2$', message)


@pytest.mark.parametrize('second', ['p2', ''])
def test_a_case_has_one_patient(tmp_path, second):
    rows = [('a.png', 'c1', 'p1', '', 'train'), ('b.png', 'c1', second, '', 'train')]
    message = complaint(tmp_path, text_of(rows))
    assert f"row 3: case 'c1' belongs to patient {second!r}, but to 'p1' in" in message


@pytest.mark.parametrize(
    ('what', 'ids'), [('patient', [('c1', 'p1'), ('c2', 'p1')]), ('case', [('c1', ''), ('c1', '')])]
)
def test_no_leak_between_splits(tmp_path, what, ids):
    rows = [
        ('a.png', *ids[0], 'x', 'train'),
        ('z.png', '', '', '', ''),
        ('b.png', *ids[1], 'x', 'test'),
    ]
    message = complaint(tmp_path, text_of(rows))
    assert f"row 4: {what} '{what[0]}1' is in split 'test', but in 'train' in" in message
    assert message.count('table.csv row') == 2


def test_a_row_without_a_split_leaks_nothing(tmp_path):
    rows = [('a.png', 'c1', 'p1', 'x', 'train'), ('b.png', 'c1', 'p1', 'x', '')]
    manifest = read(tmp_path, text_of(rows))
    assert manifest.rows(('train',)).tolist() == [0]
    assert '1 rows have no split' in manifest.announcements[0]


def test_rows_of_splits(tmp_path):
    manifest = manifest_of(tmp_path, ROWS)
    assert manifest.rows(('train',)).tolist() == [0, 1]
    assert manifest.rows(('test', 'train')).tolist() == [0, 1, 3]
    with pytest.raises(
        InputError, match=r"no row has split 'tset' \(splits found: test, train, val"
    ):
        manifest.rows(('train', 'tset'))
    with pytest.raises(InputError, match='name of a split is empty'):
        manifest.rows(())


def split_rows(count):
    """Two images a case, two cases a patient; the last ones without patient, or without case."""
    rows = [(f'{i}.png', f'c{i // 2}', f'p{i // 4}', '') for i in range(count)]
    rows += [(f'n{i}.png', f'n{i // 2}', '', '') for i in range(count // 4)]
    return rows + [(f'l{i}.png', '', '', '') for i in range(count // 4)]


def splits_by_path(folder, rows, seed=0):
    folder.mkdir(exist_ok=True)
    path = write_table(folder / 'table.csv', rows, HEADER[:4])
    manifest = read_manifest(path, columns=COLUMNS, split_seed=seed)
    return dict(zip([row[0] for row in rows], manifest.split.tolist())), manifest


def test_seeded_split_is_by_patient_and_announced(tmp_path):
    rows = split_rows(4000)
    split, manifest = splits_by_path(tmp_path, rows)
    assert set(split.values()) == {'train', 'val', 'test'}
    for column, count in ((1, 2000 + 500), (2, 1000)):
        of_name = collections.defaultdict(set)
        for row in rows:
            of_name[row[column]].add(split[row[0]])
        of_name.pop('')
        assert len(of_name) == count and all(map(len, of_name.values()))
        assert {len(found) for found in of_name.values()} == {1}
    units = collections.Counter(split[row[0]] for row in rows[:4000:4])
    for name, share in (('train', 0.7), ('val', 0.1), ('test', 0.2)):
        assert abs(units[name] - 1000 * share) < 4 * np.sqrt(1000 * share * (1 - share))
    (line,) = manifest.announcements
    counts = collections.Counter(split.values())
    expected = ', '.join(f'{name} {counts[name]}' for name in ('train', 'val', 'test'))
    assert "no column 'split'" in line and 'seed 0' in line and expected in line


def test_seeded_split_stays_when_rows_are_added_or_moved(tmp_path):
    rows = split_rows(400)
    split, _ = splits_by_path(tmp_path / 'one', rows)
    more = [('new.png', 'cnew', 'pnew', ''), *rows[::-1], ('0b.png', 'c0', 'p0', '')]
    later, _ = splits_by_path(tmp_path / 'two', more)
    assert {name: later[name] for name in split} == split
    assert later['0b.png'] == split['0.png']


def test_another_seed_is_another_split(tmp_path):
    rows = split_rows(400)
    first, second = (splits_by_path(tmp_path, rows, seed)[0] for seed in (0, 1))
    same = np.mean([first[name] == second[name] for name in first])
    assert 0.4 < same < 0.7  # 0.7^2 + 0.1^2 + 0.2^2 = 0.54 of unrelated splits


def test_seeded_split_of_other_shares():
    names = np.array([f'patient {i}' for i in range(20_000)], dtype=object)
    found = collections.Counter(seeded_split(names, 3, (0.5, 0.3)).tolist())
    assert abs(found['train'] / 20_000 - 0.5) < 0.015
    assert abs(found['val'] / 20_000 - 0.3) < 0.015


def test_fingerprint(tmp_path, monkeypatch):
    manifest = manifest_of(tmp_path, ROWS)
    first = manifest.fingerprint()
    assert re.fullmatch('[0-9a-f]{16}', first)
    for column in range(5):
        changed = [list(row) for row in ROWS]
        changed[2][column] += 'x'
        assert manifest_of(tmp_path, changed).fingerprint() != first
    moved = tmp_path / 'moved'
    moved.mkdir()
    assert manifest_of(moved, ROWS).fingerprint() == first
    shutil.copy(tmp_path / 'table.csv', moved / 'table.csv')
    monkeypatch.chdir(tmp_path)
    manifest_of(tmp_path, ROWS)
    assert read_manifest('table.csv', columns=COLUMNS).fingerprint() == first


def test_fingerprint_of_remote_images_does_not_depend_on_where_we_are(tmp_path, monkeypatch):
    rows = [('gs://bucket/a.png', 'c', 'p', 'x', 'train')]
    found = set()
    for folder in (tmp_path / 'one', tmp_path / 'one' / 'two'):
        folder.mkdir()
        monkeypatch.chdir(folder)
        found.add(manifest_of(tmp_path, rows).fingerprint())
    assert len(found) == 1


FOLDERS = ['.', 'data', 'data/a', '..', '../here', './data//a', 'ROOT', 'ROOT/data', '/']
LISTED = [
    './',
    'a.png',
    'x/../b.png',
    '..c.png',
    'ROOT/data/a/d.png',
    '/e.png',
    'gs://bucket/f.png',
]


@pytest.mark.parametrize('folder', FOLDERS)
@pytest.mark.parametrize('root', [*FOLDERS, 'gs://bucket/x'])
def test_listed_paths_are_relative_to_the_folder(tmp_path, monkeypatch, folder, root):
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    folder, root, *listed = (text.replace('ROOT', str(here)) for text in (folder, root, *LISTED))
    table = pd.DataFrame({'image_path': listed})
    manifest = checked(table, 't.csv', columns=COLUMNS, root=root, folder=folder)
    assert list(manifest.listed_paths()) == [
        path if '://' in path else os.path.relpath(path, folder) for path in manifest.image_path
    ]

    def joined(path):
        if '://' in path:
            return path
        path = os.path.normpath(path)  # epath puts absolute ones into a bucket on Python 3.12
        return path if os.path.isabs(path) else str(epath.Path(root) / path)

    assert manifest.image_path.tolist() == [joined(path) for path in listed]


def test_listed_paths_in_a_bucket_are_relative_to_a_folder_there():
    listed = ['gs://bucket/a.png', 'gs://bucket//b.png', 'gs://bucket/x/../c.png', '/d.png']
    table = pd.DataFrame({'image_path': listed})
    manifest = checked(table, 't.csv', columns=COLUMNS, root='x', folder='gs://bucket')
    assert list(manifest.listed_paths()) == ['a.png', 'b.png', 'c.png', '/d.png']


def test_fingerprint_without_split_column_or_ids_survives_a_move(tmp_path):
    found = set()
    for name in ('one', 'two'):
        found.add(splits_by_path(tmp_path / name, [(f'{i}.png', '', '', '') for i in range(50)])[1]
                  .fingerprint())  # fmt: skip
    assert len(found) == 1
