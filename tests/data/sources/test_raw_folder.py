import re
from pathlib import Path

import pytest
from etils import epath

from big_ssl.data.sources import SOURCES, raw_folder
from big_ssl.data.sources.raw_folder import RawFolder
from tests.data.sources.published_trees import column, plant, write

BUCKET = 'gs://bucket'


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """What lies under tmp_path is at gs://bucket too; the names asked whether they are folders."""
    asked = []

    class Remote(type(Path())):
        def is_dir(self):
            asked.append(self.name)
            return super().is_dir()

    def at(path):
        return Remote(str(path).replace(BUCKET, str(tmp_path)))

    monkeypatch.setattr(epath, 'Path', at)
    return asked


def test_a_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(raw_folder.InputError, match='away: cannot be listed: No such file'):
        raw_folder.listed(str(tmp_path / 'away'))


def test_sorted_names_without_hidden_ones(tmp_path):
    plant(tmp_path, ['b/x.png', 'a/x.png', '.cache/x.png', 'd.png', 'c.png', '._c.png'])
    assert raw_folder.listed(str(tmp_path)) == (['a', 'b'], ['c.png', 'd.png'])


def test_links_in_a_circle_end(tmp_path):
    plant(tmp_path, ['a/x.png'])
    (tmp_path / 'a/again').symlink_to(tmp_path / 'a')
    assert RawFolder(str(tmp_path), '').images(['x.png', 'y.png']) == ['a/x.png', '']


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    plant(tmp_path, ['a/x.png', 'a/b/y.png', 'leaf1/z.png'])
    seen = []
    kept = raw_folder.listed
    monkeypatch.setattr(raw_folder, 'listed', lambda at, leaf: seen.append(at) or kept(at, leaf))
    raw = RawFolder(str(tmp_path), '', leaf=r'leaf\d')
    assert raw.images(['x', 'y', 'z']) == ['a/x.png', 'a/b/y.png', '']
    assert raw.folders(['leaf1', 'leaf2']) == ['leaf1', ''] and raw.table('t.csv') == ''
    assert sorted(seen) == [str(tmp_path / name) for name in ('', 'a', 'a/b')]


def test_gzipped_tables_and_the_order_of_names(tmp_path):
    raw = RawFolder(str(tmp_path) + '/', '')
    write(tmp_path, 'b.csv.gz', '')
    write(tmp_path, 'deep/a.csv', '')
    assert raw.table('c.csv', 'b.csv', 'a.csv') == f'{tmp_path}/b.csv.gz'
    assert raw.needed_table('a.csv') == f'{tmp_path}/deep/a.csv'


def test_remote_folders(tmp_path, bucket):
    plant(tmp_path, ['train/patient1/a.jpg', 'train/patient2/a.jpg', 'train/b.jpg'])
    leaf = re.compile(r'patient\d')
    assert raw_folder.listed(f'{BUCKET}/train', leaf) == (['patient1', 'patient2'], ['b.jpg'])
    assert bucket == []  # nothing but the listing
    raw = RawFolder(BUCKET, '', leaf=leaf.pattern)
    assert raw.folders(['patient2']) == ['train/patient2']
    assert raw.images(['b']) == ['train/b.jpg']


def test_a_remote_data_set(tmp_path, bucket):
    write(tmp_path, 'trainLabels.csv', 'image,level', '10_left,0', '13_left,4')
    plant(tmp_path, ['train/10_left.jpeg'])
    found = SOURCES['eyepacs'].read(BUCKET)
    assert column(found, 'image_path') == ['train/10_left.jpeg']
    assert column(found, 'listed_in') == [f'{BUCKET}/trainLabels.csv row 2']
