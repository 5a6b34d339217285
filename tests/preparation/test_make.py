"""The whole way from a table to a record set, in this process."""

import dataclasses
import io
import json
import shutil
import stat

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from big_ssl.augment.crops import Crop
from big_ssl.data import datasets, records
from big_ssl.data.cases import units_of_cases, units_of_images
from big_ssl.data.images import decode, evaluation_image
from big_ssl.data.manifest import read_manifest
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.preparation.make import make
from big_ssl.preparation.pictures import Reading
from big_ssl.preparation.settings import Settings
from tests.helpers import COLUMNS, host_views, save, smooth, write_table
from tests.preparation.sets import (
    HEADER,
    config_of,
    files,
    made_table,
    opened,
    rows_of,
    run,
    settings_of,
)


def test_a_record_set_is_the_manifest_read_directly(tmp_path):
    settings = settings_of(tmp_path)
    make(settings, run)
    direct = opened(config_of(manifest=settings.manifest))
    stored = opened(config_of(name='records', data_dir=settings.out))
    one, other = direct.manifest, stored.manifest
    assert one.fingerprint() == other.fingerprint()
    for column in ('case_id', 'patient_id', 'label', 'split'):
        assert getattr(one, column).tolist() == getattr(other, column).tolist()
    for name in ('sizes', 'formats', 'orientations'):
        np.testing.assert_array_equal(getattr(direct, name), getattr(stored, name))
    for row in range(len(one)):
        np.testing.assert_array_equal(decode(direct, row), decode(stored, row))
        crops = [evaluation_image(t, row, size=16, proportion=0.9) for t in (direct, stored)]
        np.testing.assert_array_equal(*crops)


@pytest.mark.parametrize('units', [units_of_cases, units_of_images])
def test_training_batches_are_the_same(tmp_path, units):
    settings = settings_of(tmp_path)
    make(settings, run)
    batches = []
    for config in (
        config_of(manifest=settings.manifest),
        config_of(name='records', data_dir=settings.out),
    ):
        table = opened(config)
        rows = table.manifest.rows(('train',))
        sampler = Sampler(units(table.manifest, rows), seed=3, batch_size=8, views=2)
        crop = Crop(area=(0.2, 1.0))
        steps = host_views(table, sampler, range(4), slice(None), size=16, crop=crop)
        batches.append(np.stack(list(steps)))
    np.testing.assert_array_equal(*batches)


def test_tfds_opens_it(tmp_path):
    settings = settings_of(tmp_path)
    make(settings, run)
    table = pd.read_csv(settings.manifest, dtype=str)
    builder = tfds.builder_from_directory(settings.out)
    assert set(builder.info.splits) == {'train', 'val', 'test'}
    for split, part in table.groupby('split'):
        cases = dict(list(part.groupby('case_id')))
        source = builder.as_data_source(split)
        assert len(source) == len(cases)
        for record in source:
            rows = cases.pop(record['case_id'].decode())
            assert record['patient_id'].decode() == rows.patient_id.iloc[0]
            assert record['label'].decode() == rows.label.iloc[0]
            images = record['images']
            assert [path.decode() for path in images['path']] == rows.image_path.tolist()
            for image, path in zip(images['image'], rows.image_path):
                np.testing.assert_array_equal(image, np.asarray(Image.open(tmp_path / path)))
        assert not cases


@pytest.mark.parametrize('deep', [1, 30])
def test_sixteen_bits_are_stored_as_they_are(tmp_path, deep):
    """All of them, and one beside 8-bit images; TFDS gives encoded bytes."""
    rows = [(f'{i}.png', f'c{i}', f'p{i}', 'ab'[i % 2], 'train') for i in range(30)]
    values = np.random.default_rng(0).integers(0, 4096, (30, 9, 12)).astype(np.uint16)
    for i, row in enumerate(rows):
        save(tmp_path / row[0], values[i] if i < deep else smooth(9, 12, seed=i)[..., 0])
    table = write_table(tmp_path / 'table.csv', rows)
    settings = settings_of(tmp_path, table)
    make(settings, run)
    with pytest.raises(InputError, match='dataset.window='):
        opened(config_of(name='records', data_dir=settings.out))
    stored = opened(config_of(name='records', data_dir=settings.out, window='1000,3000'))
    shown = np.rint((np.clip(values[0].astype(float), 1000, 3000) - 1000) / 2000 * 255)
    assert abs(decode(stored, 0)[..., 0] - shown).max() <= 1
    (image, *_) = next(iter(tfds.builder_from_directory(settings.out).as_data_source('train')))[
        'images'
    ]['image']
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(image))), values[0])


def test_shards_are_cut_and_all_images_found(tmp_path):
    settings = settings_of(tmp_path, shard_bytes=5_000)
    make(settings, run)
    about = json.loads((tmp_path / 'set' / records.ABOUT).read_text())
    assert len(about['shards']) > 6
    stored = opened(config_of(name='records', data_dir=settings.out))
    direct = opened(config_of(manifest=settings.manifest))
    for row in range(len(direct.manifest)):
        np.testing.assert_array_equal(decode(direct, row), decode(stored, row))
    assert sum(tfds.builder_from_directory(settings.out).info.splits[name].num_examples
               for name in ('train', 'val', 'test')) == about['cases']  # fmt: skip


def test_names_and_data_dir_that_mean_a_record_set(tmp_path):
    make(settings_of(tmp_path), run)
    for dataset in (
        {'name': 'records', 'data_dir': str(tmp_path / 'set')},
        {'name': 'set', 'data_dir': str(tmp_path)},
        {'name': 'set', 'data_dir': str(tmp_path / 'set')},
        {'data_dir': str(tmp_path / 'set')},
        {'name': str(tmp_path / 'set')},
    ):
        assert len(datasets.open_manifest(config_of(**dataset))) == 30
    for name, folder in (('records', tmp_path), ('other', tmp_path), ('phantom', tmp_path / 'set')):
        with pytest.raises(InputError, match='config: dataset'):
            datasets.open_manifest(config_of(name=name, data_dir=str(folder)))


def test_a_further_column_can_be_the_label(tmp_path):
    settings = settings_of(tmp_path)
    make(settings, run)
    config = config_of(name='records', data_dir=settings.out)
    config.dataset.columns.label = 'age'
    manifest = datasets.open_manifest(config)
    assert manifest.label.tolist() == [row[5] for row in rows_of()]


def test_columns_that_identify_a_person_are_left_out(tmp_path, caplog):
    settings = settings_of(tmp_path)
    make(settings, run)
    assert 'patient_name' in caplog.text and '--keep_columns' in caplog.text
    for name, content in files(tmp_path / 'set').items():
        assert b'Secret' not in content, name
    manifest = records.open_records(settings.out)
    assert list(manifest.further) == ['age']
    kept = dataclasses.replace(settings, out=str(tmp_path / 'kept'),
                               keep_columns=('patient_name',))  # fmt: skip
    make(kept, run)
    assert list(records.open_records(kept.out).further) == ['patient_name']
    wrong = dataclasses.replace(kept, out=str(tmp_path / 'wrong'), keep_columns=('weight',))
    with pytest.raises(InputError, match="no column 'weight'; further columns: age, patient_name"):
        make(wrong, run)


def test_hashed_ids(tmp_path):
    rows = [(f'Smithson_{i}.png', f'HOSPITAL-{i // 2}', f'MRNumber{i // 4}', 'ab'[i % 4 // 2],
             ('train', 'val', 'test')[i // 4 % 3]) for i in range(24)]  # fmt: skip
    settings = settings_of(tmp_path, made_table(tmp_path, rows, HEADER[:5]), hash_ids=True)
    make(settings, run)
    for name, content in files(tmp_path / 'set').items():
        for secret in (b'Smithson', b'HOSPITAL', b'MRNumber'):
            assert secret not in content, name
    hashed = records.open_records(settings.out)
    table = read_manifest(settings.manifest, columns=COLUMNS)
    for column in ('case_id', 'patient_id', 'image_path'):
        pairs = set(zip(getattr(table, column).tolist(), getattr(hashed, column).tolist()))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert all(len(name) == 32 for _, name in pairs)
    salt = tmp_path / 'set.salt'
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600 and len(salt.read_text().strip()) == 64
    same = dataclasses.replace(settings, out=str(tmp_path / 'same'), salt_file=str(salt))
    other = dataclasses.replace(settings, out=str(tmp_path / 'other'))
    for each in (same, other):
        make(each, run)
    again, else_ = (records.open_records(each.out).patient_id.tolist() for each in (same, other))
    assert again == hashed.patient_id.tolist() and not set(again) & set(else_)
    salt.write_text('short')
    with pytest.raises(InputError, match='at least 16'):
        make(dataclasses.replace(same, out=str(tmp_path / 'short')), run)


def test_splits_are_made_stratified_by_patient(tmp_path, caplog):
    rows = [(f'{i}.png', f'c{i // 2}', f'p{i // 4}', 'ab'[i // 4 % 5 == 0]) for i in range(400)]
    settings = settings_of(tmp_path, made_table(tmp_path, rows, HEADER[:4]))
    make(settings, run)
    manifest = records.open_records(settings.out)
    assert 'stratified by label' in caplog.text
    for label in 'ab':
        here = manifest.split[manifest.label == label]
        for split, share in zip(('train', 'val', 'test'), (0.7, 0.1, 0.2)):
            assert abs((here == split).mean() - share) < 0.07
    of = dict(zip(manifest.patient_id, manifest.split))
    assert [of[name] for name in manifest.patient_id] == manifest.split.tolist()


@pytest.mark.parametrize('known', ['patients', 'images'])
@pytest.mark.parametrize('hashed', [False, True])
def test_splits_of_an_earlier_set_are_kept(tmp_path, known, hashed):
    has_ids = known == 'patients'
    rows = [(f'{i}.png', f'c{i}' * has_ids, f'p{i}' * has_ids, 'ab'[i % 2]) for i in range(60)]
    salt = {'hash_ids': hashed, 'salt_file': str(tmp_path / 'salt') * hashed}
    settings = settings_of(tmp_path, made_table(tmp_path, rows[:40], HEADER[:4]), **salt)
    make(settings, run)
    before = records.open_records(settings.out)
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(60)]
    more = tmp_path / 'more'
    later = Settings(out=str(tmp_path / 'later'), manifest=made_table(more, shuffled, HEADER[:4]),
                     splits_from=settings.out, **salt)  # fmt: skip
    make(later, run)
    after = records.open_records(later.out)
    earlier = dict(zip(before.image_path, before.split))
    found = dict(zip(after.image_path, after.split))
    assert {name: found[name] for name in earlier} == earlier
    assert set(found.values()) == {'train', 'val', 'test'}


def test_bad_images_stop_it_or_are_left_out(tmp_path, caplog):
    settings = settings_of(tmp_path)
    first, second = rows_of()[4][0], rows_of()[9][0]
    (tmp_path / first).write_bytes(b'')
    (tmp_path / second).write_text('not an image')
    with pytest.raises(InputError) as caught:
        make(settings, run)
    listed = tmp_path / 'set.rejected.csv'
    assert str(caught.value) == (
        f'{settings.manifest} row 6: {tmp_path / first}: the file is empty (0 bytes) '
        f'(2 of 30 images cannot be used: {listed}); --on_bad=skip leaves such images out'
    )
    assert not (tmp_path / 'set').exists()
    assert pd.read_csv(listed)['listed_in'].tolist() == ['table.csv row 6', 'table.csv row 11']
    skipping = dataclasses.replace(settings, on_bad='skip')
    make(skipping, run)
    assert '2 of 30 images cannot be used and are left out' in caplog.text
    assert not listed.exists()
    rejected = pd.read_csv(tmp_path / 'set' / 'rejected.csv')
    assert rejected['image_path'].tolist() == [first, second]
    assert rejected['problem'].tolist()[1] == 'not a JPEG, PNG or TIFF image'
    manifest = records.open_records(settings.out)
    assert len(manifest) == 28 and not {first, second} & set(manifest.image_path)
    page = (tmp_path / 'set' / 'data_report.html').read_text()
    assert 'the file is empty' in page and 'table.csv row 6' in page


def test_nothing_is_left_of_a_table_without_a_usable_image(tmp_path):
    settings = settings_of(tmp_path, on_bad='skip')
    shutil.rmtree(tmp_path / 'images')
    with pytest.raises(InputError, match='no such file; none of 30 images can be used'):
        make(settings, run)
    assert not (tmp_path / 'set').exists()


def test_copies_across_splits_stop_it(tmp_path):
    settings = settings_of(tmp_path)
    rows = rows_of()
    train = next(i for i, row in enumerate(rows) if row[4] == 'train' and row[0].endswith('png'))
    test = next(i for i, row in enumerate(rows) if row[4] == 'test' and row[0].endswith('jpg'))
    Image.open(tmp_path / rows[train][0]).convert('RGB').save(tmp_path / rows[test][0], quality=60)
    with pytest.raises(InputError) as caught:
        make(settings, run)
    message = str(caught.value)
    assert rows[train][0] in message and rows[test][0] in message and '--duplicates=' in message
    listed = pd.read_csv(tmp_path / 'set.duplicates.csv')
    assert {*listed.loc[0, ['image_path_1', 'image_path_2']]} == {rows[train][0], rows[test][0]}
    assert not (tmp_path / 'set').exists()
    make(dataclasses.replace(settings, duplicates='keep'), run)
    assert len(records.open_records(settings.out)) == 30
    shutil.rmtree(tmp_path / 'set')
    make(dataclasses.replace(settings, duplicates='drop'), run)
    left = records.open_records(settings.out).image_path
    assert rows[train][0] not in left and rows[test][0] in left
    assert 'One picture in two splits' in (tmp_path / 'set/data_report.html').read_text()


def test_images_of_a_case_with_different_labels_keep_their_own(tmp_path, caplog):
    rows = [('a.png', 'c', 'p', 'x', 'train'), ('b.png', 'c', 'p', 'y', 'train'),
            ('c.png', 'd', 'q', 'x', 'test'), ('d.png', 'd', 'q', '', 'test')]  # fmt: skip
    settings = settings_of(tmp_path, made_table(tmp_path, rows, HEADER[:5]))
    make(settings, run)
    assert 'the images of 1 cases have different labels' in caplog.text
    builder = tfds.builder_from_directory(settings.out)
    (torn,), (whole,) = (list(builder.as_data_source(split)) for split in ('train', 'test'))
    assert torn['label'] == b'' and list(torn['images']['label']) == [b'x', b'y']
    assert whole['label'] == b'x' and list(whole['images']['label']) == [b'x', b'']


def test_smaller_images(tmp_path):
    settings = settings_of(tmp_path, reading=Reading(shorter_side=20))
    make(settings, run)
    stored = opened(config_of(name='records', data_dir=settings.out))
    assert stored.sizes.min(axis=1).tolist() == [20] * 30
    assert decode(stored, 3).shape[:2] == tuple(stored.sizes[3])
