import collections
import hashlib
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from big_ssl.data.windows import Window
from big_ssl.errors import InputError
from big_ssl.preparation.pictures import Reading
from big_ssl.preparation.shards import case_label, plan, write
from tests.helpers import smooth
from tests.preparation.test_metadata import SECRET, chunk, encode, exif

COLUMNS = ('split', 'case', 'size')


def table(rows):
    return pd.DataFrame(rows, columns=COLUMNS).set_index(pd.Index(range(10, 10 + len(rows))))


ROW = st.tuples(
    st.sampled_from(['train', 'test', '', 'shift-test_2']),
    st.integers(0, 12).map(str),
    st.integers(0, 2000),
)


@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 6000))
@settings(max_examples=150, deadline=None)
def test_every_image_is_in_one_record_with_its_case(rows, limit):
    images = table(rows)
    shards = plan(images, limit)
    stored = pd.concat([shard.images.assign(shard=i) for i, shard in enumerate(shards)])
    assert sorted(stored.index) == images.index.tolist()
    pd.testing.assert_frame_equal(stored[[*COLUMNS]].sort_index(), images)
    records = dict(list(stored.groupby(['shard', 'record'])))
    cases = dict(list(images.groupby(['split', 'case'])))
    assert len(records) == len(cases)
    for part in records.values():
        split, case = part['split'].iloc[0], part['case'].iloc[0]
        assert part.index.tolist() == cases[split, case].index.tolist()
    for shard in shards:
        assert set(shard.images['split']) == {shard.split}
        numbers = shard.images['record'].tolist()
        assert numbers == sorted(numbers) and set(numbers) == set(range(numbers[-1] + 1))


@given(st.lists(ROW, min_size=1, max_size=40), st.integers(1, 6000))
@settings(max_examples=150, deadline=None)
def test_cases_follow_their_first_images_and_shards_are_cut_by_bytes(rows, limit):
    """A case is in the shard in which its first byte stands, of all the bytes of its split."""
    shards = plan(table(rows), limit)
    expected = []
    for split in sorted({row[0] for row in rows}):
        sizes = collections.Counter()
        for other, case, size in rows:
            if other == split:
                sizes[case] += size
        begin, by_shard = 0, {}
        for case, size in sizes.items():
            by_shard.setdefault(begin // limit, []).append(case)
            begin += size
        name = f'cases-{split or "unsplit"}.array_record'
        for i, cases in enumerate(by_shard.values()):
            expected.append((f'{name}-{i:05d}-of-{len(by_shard):05d}', split, cases))
    found = [
        (shard.name, shard.split, list(dict.fromkeys(shard.images['case']))) for shard in shards
    ]
    assert found == expected


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [
        ([], ''), ([''], ''), (['nv'], 'nv'), (['nv', 'nv'], 'nv'), (['', 'nv', ''], 'nv'),
        (['nv', 'mel'], ''), (['nv', 'mel', 'nv'], ''), (['a|b', 'b|a'], ''),
    ],
)  # fmt: skip
def test_the_label_of_a_case(labels, expected):
    assert case_label(labels) == expected


def listed(folder, cases):
    """Rows of a shard: (case, label, bytes of the file) each."""
    rows, numbers = [], {}
    for i, (case, label, data) in enumerate(cases):
        (folder / f'{i}.file').write_bytes(data)
        rows.append({
            'record': numbers.setdefault(case, len(numbers)), 'source': str(folder / f'{i}.file'),
            'frame': 0, 'sha256': hashlib.sha256(data).hexdigest(), 'where': f't.csv row {i + 2}',
            'image_path': f'größe/{i}.png', 'case_id': case, 'patient_id': f'of {case}',
            'label': label,
        })  # fmt: skip
    return pd.DataFrame(rows, index=range(100, 100 + len(rows)))


def images_of(kinds):
    return [encode(smooth(12, 16, seed=i, noise=9), kind) for i, kind in enumerate(kinds)]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """Three cases; one has two equal images, an image within which another stands, and a TIFF."""
    folder = tmp_path_factory.mktemp('shard')
    jpeg, png, tiff = images_of(['JPEG', 'PNG', 'TIFF'])
    header = struct.pack('>IIBBBBB', len(png), 1, 8, 0, 0, 0, 0)
    rows = chunk(b'IDAT', zlib.compress(b'\0' + png, 0))  # as they are: its pixels are that file
    outer = png[:8] + chunk(b'IHDR', header) + rows + png[-12:]
    assert png in outer
    cases = [
        ('a', 'nv', jpeg), ('b', '', png), ('b', 'mel', jpeg), ('b', '', jpeg), ('b', 'mel', tiff),
        ('c', 'nv', outer), ('c', 'mel', png),
    ]  # fmt: skip
    table = listed(folder, cases)
    places = write(folder / 'shard', table, Reading())
    reader = ArrayRecordReader(str(folder / 'shard'), 'readahead_buffer_size:0')
    return table, places, reader.read_all()


def example(data):
    from tensorflow.core.example import example_pb2

    features = example_pb2.Example.FromString(data).features.feature
    return {name: list(value.bytes_list.value) for name, value in features.items()}


def test_a_record_is_a_case_in_the_layout_of_tfds(written):
    _, _, records = written
    first, second, third = map(example, records)
    names = {'case_id', 'patient_id', 'label', 'images/image', 'images/label', 'images/path'}
    assert set(first) == set(second) == set(third) == names
    assert (first['case_id'], first['patient_id'], first['label']) == ([b'a'], [b'of a'], [b'nv'])
    assert second['label'] == [b'mel'] and third['label'] == [b'']
    assert second['images/label'] == [b'', b'mel', b'', b'mel']
    assert second['images/path'] == [f'größe/{i}.png'.encode() for i in range(1, 5)]
    assert [len(one['images/image']) for one in (first, second, third)] == [1, 4, 2]


def test_tfds_reads_the_records(written):
    tfds = pytest.importorskip('tensorflow_datasets')
    _, _, records = written
    text, image = tfds.features.Text(), tfds.features.Image(shape=(None, None, 3))
    features = tfds.features.FeaturesDict({
        'case_id': text, 'patient_id': text, 'label': text,
        'images': tfds.features.Sequence({'image': image, 'label': text, 'path': text}),
    })  # fmt: skip
    found = features.deserialize_example_np(records[1])
    assert found['case_id'] == b'b' and list(found['images']['label']) == [b'', b'mel', b'', b'mel']
    shown = [Image.open(path) for path in written[0]['source'][1:5]]
    for one, other in zip(found['images']['image'], shown):
        assert abs(one.astype(int) - np.asarray(other)).max() <= 1


def test_an_image_is_the_slice_that_its_place_says(written):
    table, places, records = written
    assert places.index.tolist() == table.index.tolist()
    assert places['record'].tolist() == table['record'].tolist()
    used = [set() for _ in records]
    for record, part in places.groupby('record'):
        encoded = example(records[record])['images/image']
        for (_, start, length), data in zip(part.itertuples(index=False), encoded):
            assert records[record][start : start + length] == data
            assert not used[record] & set(range(start, start + length))
            used[record] |= set(range(start, start + length))
        assert [sum(map(len, encoded))] == [len(used[record])]


def test_what_is_stored_is_the_picture_alone(tmp_path):
    table = listed(tmp_path, [('a', '', encode(smooth(9, 9), exif=exif(6), comment=SECRET))])
    write(tmp_path / 'shard', table, Reading())
    assert SECRET not in (tmp_path / 'shard').read_bytes()


def test_the_reading_is_the_one_asked_for(tmp_path):
    deep = np.array([[1000, 2000, 3000]], np.uint16)
    table = listed(tmp_path, [('a', '', encode(deep, 'PNG'))])
    write(tmp_path / 'shard', table, Reading(Window('values', 1000, 3000)))
    (record,) = ArrayRecordReader(str(tmp_path / 'shard'), 'readahead_buffer_size:0').read_all()
    (tmp_path / 'a.png').write_bytes(example(record)['images/image'][0])
    assert np.asarray(Image.open(tmp_path / 'a.png')).tolist() == [[0, 128, 255]]


def test_the_same_images_are_the_same_bytes(tmp_path):
    """So a run that was killed and goes on makes the record set that it would have made."""
    cases = list(zip('aab', ['x', '', 'y'], images_of(['JPEG', 'PNG', 'TIFF'])))
    found = set()
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
        write(tmp_path / name / 'shard', listed(tmp_path / name, cases), Reading())
        found.add((tmp_path / name / 'shard').read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize('how', ['changed', 'gone', 'another image'])
def test_a_source_that_has_changed_since_is_an_error(tmp_path, how):
    table = listed(tmp_path, [('a', '', data) for data in images_of(['PNG', 'PNG'])])
    source = tmp_path / '1.file'
    if how == 'gone':
        source.unlink()
    elif how == 'changed':
        source.write_bytes(source.read_bytes() + b'\0')
    else:
        source.write_bytes((tmp_path / '0.file').read_bytes())
    with pytest.raises(InputError) as caught:
        write(tmp_path / 'shard', table, Reading())
    reason = 'no such file' if how == 'gone' else 'has changed since it was looked at'
    assert str(caught.value).startswith(f't.csv row 3: {source}: {reason}')


def test_frames_of_a_file_are_images_of_a_case(tmp_path):
    pytest.importorskip('pydicom', reason='DICOM files need pydicom')
    from tests.data.dicom_files import dicom

    film = np.stack([smooth(12, 16, seed=i)[..., 0] for i in range(3)])
    data = dicom(film, frames=3, WindowCenter=128, WindowWidth=256)
    table = listed(tmp_path, [('a', '', data)] * 3).assign(frame=[2, 0, 1])
    write(tmp_path / 'shard', table, Reading(split_frames=True))
    (record,) = ArrayRecordReader(str(tmp_path / 'shard'), 'readahead_buffer_size:0').read_all()
    for i, png in zip((2, 0, 1), example(record)['images/image']):
        (tmp_path / 'frame.png').write_bytes(png)
        assert np.array_equal(np.asarray(Image.open(tmp_path / 'frame.png')), film[i])
