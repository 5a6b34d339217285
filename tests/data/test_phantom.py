import collections
import concurrent.futures
import csv
import hashlib
import multiprocessing

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from big_ssl.data.phantom import make_phantom, phantom
from big_ssl.data.phantom_images import CLASSES, render
from big_ssl.errors import InputError


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
    return make_phantom(tmp_path_factory.mktemp('phantom') / 'set', cases=240, size=32)


@pytest.fixture(scope='module')
def rows(manifest):
    with manifest.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def images(manifest, rows):
    return np.stack([np.asarray(Image.open(manifest.parent / row['image_path'])) for row in rows])


def digest(folder):
    """Of the names and bytes of every file."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        total.update(str(path.relative_to(folder)).encode())
        total.update(path.read_bytes() if path.is_file() else b'')
    return total.hexdigest()


def test_schema(manifest, rows, images):
    header = manifest.read_text().splitlines()[0]
    assert header == 'image_path,case_id,patient_id,label,split,domain'
    assert images.shape == (len(rows), 32, 32, 3) and images.dtype == np.uint8
    assert {row['domain'] for row in rows} == {'synthetic-phantom'}
    assert {row['label'] for row in rows} == set(CLASSES)
    assert len(CLASSES) == 8
    files = {f'images/{path.name}' for path in (manifest.parent / 'images').iterdir()}
    assert {row['image_path'] for row in rows} == files
    assert len(files) == len(rows)


def test_cases_patients_and_splits_nest(rows):
    of_case, patients = collections.defaultdict(set), collections.defaultdict(set)
    splits = collections.defaultdict(set)
    for row in rows:
        of_case[row['case_id']].add((row['patient_id'], row['label'], row['split']))
        patients[row['patient_id']].add(row['case_id'])
        splits[row['patient_id']].add(row['split'])
    assert len(of_case) == 240
    assert all(len(facts) == 1 for facts in of_case.values())
    assert all(len(names) == 1 for names in splits.values())
    assert collections.Counter(map(len, patients.values())) == {1: 192, 2: 24}
    share = collections.Counter(next(iter(names)) for names in splits.values())
    assert share == {'train': 152, 'val': 21, 'test': 43}  # 70, 10 and 20% of 216 patients


def test_images_per_case(rows):
    sizes = collections.Counter(collections.Counter(row['case_id'] for row in rows).values())
    assert set(sizes) == {1, 2, 3, 4, 5, 6}
    assert sum(count for size, count in sizes.items() if size >= 2) > 0.8 * 240


def test_classes_are_balanced_within_each_split(rows):
    cases = {row['case_id']: (row['split'], row['label']) for row in rows}
    for split in ('train', 'val', 'test'):
        counts = collections.Counter(label for part, label in cases.values() if part == split)
        assert len(counts) == 8 and max(counts.values()) - min(counts.values()) <= 1


def test_mean_and_spread_of_colour_do_not_depend_on_the_class(rows, images):
    labels = np.array([row['label'] for row in rows])
    cases = np.array([row['case_id'] for row in rows])
    unique, first = np.unique(cases, return_index=True)
    for statistic in (images.mean(axis=(1, 2)), images.std(axis=(1, 2))):
        per_case = np.stack([statistic[cases == case].mean(axis=0) for case in unique])
        for channel in range(3):
            groups = [per_case[labels[first] == name, channel] for name in CLASSES]
            assert stats.f_oneway(*groups).pvalue > 1e-3


def test_neighbours_in_pixels_do_not_share_a_class(rows, images):
    neighbors = pytest.importorskip('sklearn.neighbors')
    labels = np.array([row['label'] for row in rows])
    train = np.array([row['split'] == 'train' for row in rows])
    flat = images.reshape(len(images), -1) / 255.0
    model = neighbors.KNeighborsClassifier(5).fit(flat[train], labels[train])
    assert model.score(flat[~train], labels[~train]) < 0.25  # 0.125 is chance


def test_a_case_has_a_colour_of_its_own():
    def mean(case, first):
        centre = slice(10, 14)
        views = [render('bipartite', 0, case, first + i, 24)[centre, centre] for i in range(80)]
        return np.mean(views, axis=(0, 1, 2))

    reference = mean(1, 0)
    assert np.abs(reference - mean(1, 1000)).max() < 12
    assert max(np.abs(reference - mean(case, 1000)).max() for case in (2, 3, 4)) > 15


@pytest.mark.parametrize('label', CLASSES)
def test_views_differ(label):
    views = [render(label, 0, 3, image, 24).astype(float) for image in range(2)]
    assert np.abs(views[0] - views[1]).mean() > 8


def test_same_arguments_same_bytes(tmp_path):
    one = make_phantom(tmp_path / 'one', cases=20, size=16).parent
    two = make_phantom(tmp_path / 'two', cases=20, size=16).parent
    other = make_phantom(tmp_path / 'other', cases=20, size=16, seed=1).parent
    assert digest(one) == digest(two) != digest(other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['one', 'other', 'two']


def test_nothing_is_overwritten_and_nothing_half_done_is_left(tmp_path, monkeypatch):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'notes.txt').write_text('keep')
    with pytest.raises(FileExistsError):
        make_phantom(tmp_path / 'mine', cases=20, size=16)
    assert [p.name for p in tmp_path.rglob('*')] == ['mine', 'notes.txt']

    def full_disk(*_):
        raise OSError('no space left')

    monkeypatch.setattr(Image.Image, 'save', full_disk)
    with pytest.raises(OSError, match='no space left'):
        make_phantom(tmp_path / 'new', cases=20, size=16)
    assert [p.name for p in tmp_path.iterdir()] == ['mine']


def test_cache_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv('BIG_SSL_CACHE', str(tmp_path))
    first = phantom(cases=20, size=16)
    stamps = {path: path.stat().st_mtime_ns for path in first.parent.rglob('*')}
    assert phantom(cases=20, size=16) == first
    assert phantom(tmp_path, cases=20, size=16, seed=0) == first
    assert {path: path.stat().st_mtime_ns for path in first.parent.rglob('*')} == stamps
    assert phantom(cases=21, size=16) != first
    assert first.parent.parent == tmp_path and first.parent.name.startswith('phantom-v1-')


def test_processes_that_ask_at_once_get_one_whole_set(tmp_path):
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        paths = list(pool.map(_ask, [tmp_path] * 3))
    assert len(set(paths)) == 1
    assert len(list(tmp_path.iterdir())) == 1
    expected = make_phantom(tmp_path / 'expected', cases=20, size=16)
    assert digest(paths[0].parent) == digest(expected.parent)


def _ask(folder):
    return phantom(folder, cases=20, size=16)


def test_complaints(tmp_path):
    with pytest.raises(InputError, match='cases=5'):
        make_phantom(tmp_path / 'few', cases=5)
    damaged = phantom(tmp_path, cases=20, size=16)
    damaged.unlink()
    with pytest.raises(InputError, match='delete the folder'):
        phantom(tmp_path, cases=20, size=16)


def test_elsewhere_is_another_set_of_other_colours_and_frequencies(tmp_path, manifest, images):
    other = make_phantom(tmp_path / 'set', cases=240, size=32, elsewhere=True)
    with other.open() as file:
        rows = list(csv.DictReader(file))
    assert {row['domain'] for row in rows} == {'synthetic-phantom-elsewhere'}
    labels = collections.Counter({row['case_id']: row['label'] for row in rows}.values())
    counts = np.array([labels[name] for name in CLASSES])
    share = 1 / (1 + np.arange(len(CLASSES)))
    assert stats.chisquare(counts, 240 * share / share.sum()).pvalue > 0.001
    theirs = np.stack([np.asarray(Image.open(other.parent / row['image_path'])) for row in rows])
    red_over_blue = [(x[..., 0].mean() / x[..., 2].mean()) for x in (images, theirs)]
    assert red_over_blue[1] > 1.15 * red_over_blue[0]
