import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from big_ssl import config as config_lib
from big_ssl.augment.crops import Crop
from big_ssl.data import datasets
from big_ssl.data.cases import units_of_images
from big_ssl.data.images import decode
from big_ssl.data.sampler import Sampler
from big_ssl.data.tfds_sets import open_tfds
from big_ssl.errors import InputError
from tests.helpers import COLUMNS, host_views, smooth


class TinyLesions(tfds.core.GeneratorBasedBuilder):
    """Twelve images of six lesions; the last one has no label."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = {
            'image': tfds.features.Image(shape=(None, None, 3)),
            'label': tfds.features.ClassLabel(names=['nevus', 'melanoma']),
            'lesion': tfds.features.Text(),
            'age': np.int64,
            'box': tfds.features.BBoxFeature(),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {'train': self._generate_examples(range(8)),
                'test': self._generate_examples(range(8, 12))}  # fmt: skip

    def _generate_examples(self, numbers):
        for i in numbers:
            yield (
                i,
                {
                    'image': smooth(20 + i, 30, seed=i),
                    'label': -1 if i == 11 else i % 2,
                    'lesion': f'lesion {i // 2}',
                    'age': 30 + i,
                    'box': tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
                },
            )


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tfds')
    for file_format in ('array_record', 'tfrecord'):
        builder = TinyLesions(data_dir=folder / file_format, file_format=file_format)
        builder.download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('BIG_SSL_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def prepared(data_dir):
    return str(data_dir / 'array_record')


def by_tfds(data_dir, split):
    source = tfds.builder('tiny_lesions', data_dir=prepared(data_dir)).as_data_source(split)
    return list(source)


def test_every_record_is_a_row(data_dir):
    columns = COLUMNS | {'case_id': 'lesion'}
    manifest = open_tfds('tiny_lesions', prepared(data_dir), columns)
    theirs = [*by_tfds(data_dir, 'test'), *by_tfds(data_dir, 'train')]
    assert manifest.split.tolist() == ['test'] * 4 + ['train'] * 8
    assert manifest.case_id.tolist() == [record['lesion'].decode() for record in theirs]
    names = {0: 'nevus', 1: 'melanoma', -1: ''}
    assert manifest.label.tolist() == [names[int(record['label'])] for record in theirs]
    assert manifest.further['age'].tolist() == [str(record['age']) for record in theirs]
    assert list(manifest.further) == ['age']
    assert manifest.where(5) == 'tfds:tiny_lesions: train record 1'


def test_images_are_those_of_tfds(data_dir):
    config = config_lib.defaults()
    config.dataset.name, config.dataset.data_dir = 'tfds:tiny_lesions', prepared(data_dir)
    config = config_lib.settle(config)
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(('train',))
    table = datasets.open_images(config, manifest, rows)
    for row, record in zip(rows.tolist(), by_tfds(data_dir, 'train')):
        np.testing.assert_array_equal(decode(table, row), record['image'])
        assert table.sizes[row].tolist() == list(record['image'].shape[:2])
    sampler = Sampler(units_of_images(manifest, rows), seed=0, batch_size=4, views=2)
    crop = Crop(area=(1.0, 1.0), aspect=(1.0, 1.0))
    (views,) = host_views(table, sampler, range(1), slice(None), size=16, crop=crop)
    assert views.shape == (4, 2, 16, 16, 3) and views.std() > 10


def test_records_are_looked_at_once(data_dir, cache, monkeypatch):
    first = open_tfds('tiny_lesions', prepared(data_dir), COLUMNS)
    (kept,) = cache.iterdir()
    monkeypatch.setattr('big_ssl.data.tfds_sets._rows', lambda *_: pytest.fail('looked again'))
    again = open_tfds('tiny_lesions', prepared(data_dir), COLUMNS | {'case_id': 'lesion'})
    assert again.fingerprint() != first.fingerprint() and set(again.case_id) != {''}
    assert kept.name.startswith('tfds-v1-')


def test_array_records_beside_another_format(data_dir, tmp_path):
    """As `tfds convert_format` leaves them."""
    shutil.copytree(data_dir / 'tfrecord', tmp_path, dirs_exist_ok=True)
    folder = tmp_path / 'tiny_lesions/1.0.0'
    for shard in (data_dir / 'array_record/tiny_lesions/1.0.0').glob('*.array_record-*'):
        shutil.copy(shard, folder)
    info = json.loads((folder / 'dataset_info.json').read_text())
    info['alternativeFileFormats'] = ['array_record']
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    found = open_tfds('tiny_lesions', str(tmp_path), COLUMNS)
    assert (
        found.fingerprint() == open_tfds('tiny_lesions', prepared(data_dir), COLUMNS).fingerprint()
    )
    assert len(found.store.read(np.arange(12))) == 12


@pytest.mark.parametrize(
    ('name', 'folder', 'columns', 'expected'),
    [
        ('no_such_set', 'array_record', {}, 'TFDS cannot open it'),
        ('tiny_lesions', 'elsewhere', {}, 'download_and_prepare'),
        ('tiny_lesions', 'tfrecord', {}, 'tfds convert_format --dataset_version_dir='),
        ('tiny_lesions', 'array_record', {'label': 'dx'}, "no feature 'dx'"),
        ('tiny_lesions', 'array_record', {'image_path': 'photo'}, "no image feature 'photo'"),
    ],
)
def test_complaints(data_dir, name, folder, columns, expected):
    with pytest.raises(InputError) as caught:
        open_tfds(name, str(data_dir / folder), COLUMNS | columns)
    assert expected in str(caught.value) and '\n' not in str(caught.value)
    assert f'tfds:{name}' in str(caught.value)
