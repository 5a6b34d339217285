"""Real images: table → records → training, the same as from the table itself."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from big_ssl import config as config_lib
from big_ssl import prepare
from big_ssl.augment.crops import Crop
from big_ssl.data import datasets
from big_ssl.data.cases import units_of_cases
from big_ssl.data.sampler import Sampler
from tests import runs
from tests.helpers import host_views, unpack

SHARED = runs.ROOT.parent / 'shared' / 'data'
MULTI = ('--config.labels.kind=multi', '--config.labels.negative=No Finding',
         '--config.splits.train=train_val')  # fmt: skip
SETS = {'derm_ham10000': (), 'cxr_pediatric': (), 'nih_cxr14_mini': MULTI}

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


@pytest.fixture(scope='module', params=SETS)
def real(request, tmp_path_factory):
    """Name of the set, its manifest, and its record set."""
    archive = SHARED / f'{request.param}.tar'
    if not archive.exists():
        pytest.skip(f'the sample of real images {archive.name} is not in {SHARED}')
    folder = tmp_path_factory.mktemp(request.param)
    unpack(archive, folder)
    manifest, out = folder / request.param / 'manifest.csv', folder / 'records'
    assert prepare.main(['prepare', f'--manifest={manifest}', f'--out={out}', '--workers=1']) == 0
    return request.param, manifest, out


def batches_of(**dataset):
    config = config_lib.defaults()
    for key, value in dataset.items():
        config.dataset[key] = str(value)
    config = config_lib.settle(config)
    manifest = datasets.open_manifest(config)
    rows = np.flatnonzero(np.char.startswith(manifest.split[:].astype(str), 'train'))
    table = datasets.open_images(config, manifest, rows)
    sampler = Sampler(units_of_cases(manifest, rows), seed=5, batch_size=32, views=2)
    views = host_views(table, sampler, range(10), slice(None), size=64, crop=Crop())
    return manifest, np.stack(list(views))


def test_batches_are_those_of_the_manifest(real):
    _, manifest, out = real
    direct, expected = batches_of(manifest=manifest)
    stored, found = batches_of(name='records', data_dir=out)
    assert direct.fingerprint() == stored.fingerprint()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
def test_training_gives_the_same_weights(real, tmp_path, compile_cache):
    name, manifest, out = real
    from_table = runs.flags('derm_micle', tmp_path / 'table', str(manifest), *SETS[name])
    from_records = [flag for flag in from_table if 'manifest' not in flag and 'workdir' not in flag]
    from_records += [f'--workdir={tmp_path / "records"}', '--config.dataset.name=records',
                     f'--config.dataset.data_dir={out}']  # fmt: skip
    for arguments in (from_table, from_records):
        runs.run([*arguments, '--config.total_steps=6'], compile_cache)
    runs.assert_equal_weights(tmp_path / 'table', tmp_path / 'records')
    assert runs.metrics(tmp_path / 'table') == runs.metrics(tmp_path / 'records')


def test_tfds_counts_the_cases(real):
    _, manifest, out = real
    stored, _ = batches_of(name='records', data_dir=out)
    builder = tfds.builder_from_directory(out)
    for split in builder.info.splits:
        cases = set(stored.case_id[stored.split == split])
        assert builder.info.splits[split].num_examples == len(cases)
        record = next(iter(builder.as_data_source(split)))
        assert record['case_id'].decode() in cases
        assert {image.dtype for image in record['images']['image']} == {np.dtype('uint8')}
    assert (Path(out) / 'data_report.html').stat().st_size > 100_000
