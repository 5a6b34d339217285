"""Tables, images and record sets in a bucket, and records that are damaged."""

import functools
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from big_ssl import lease
from big_ssl.data import records
from big_ssl.data.images import decode, read_headers
from big_ssl.errors import InputError
from big_ssl.preparation.make import make
from big_ssl.preparation.settings import Settings
from tests.preparation.sets import made_table, run, settings_of


@pytest.fixture
def bucket(gs, monkeypatch) -> Path:
    """gs://, where no folder can be renamed and no lock waits long."""
    made = type((epath.Path('gs://b') / 'c')._backend)
    refuse = functools.partial(pytest.fail, 'a folder of a bucket cannot be renamed in one step')
    monkeypatch.setattr(made, 'rename', lambda *_: refuse())
    monkeypatch.setattr(lease, 'SETTLE', 0.1)
    return gs


def test_from_a_bucket_into_a_bucket(tmp_path, bucket, monkeypatch):
    monkeypatch.setenv('BIG_SSL_CACHE', str(tmp_path / 'cache'))
    made_table(bucket / 'b/data')
    make(Settings(out='gs://b/set', manifest='gs://b/data/table.csv'), run)
    assert not (bucket / 'b/set.partial').exists()
    local = settings_of(tmp_path)
    make(local, run)
    names = {path.name for path in Path(local.out).iterdir()}
    assert {path.name for path in (bucket / 'b/set').iterdir()} == names
    for name in names:
        assert (bucket / 'b/set' / name).read_bytes() == (Path(local.out) / name).read_bytes(), name
    far, near = (records.open_records(path) for path in ('gs://b/set', local.out))
    assert far.fingerprint() == near.fingerprint()
    every = np.arange(len(near))
    assert far.store.read(every) == near.store.read(every)
    assert len(list((tmp_path / 'cache').iterdir())) == len(far.store.shards)


def test_a_remote_set_is_not_there_before_it_is_complete(tmp_path, bucket):
    made_table(bucket / 'b/data')
    settings = Settings(out='gs://b/set', manifest='gs://b/data/table.csv')

    def stop(tasks, what):
        run(tasks[:1], what)
        if what == 'writing records':
            raise KeyboardInterrupt
        run(tasks, what)

    with pytest.raises(KeyboardInterrupt):
        make(settings, stop)
    assert epath.Path('gs://b/set').exists() and not records.is_record_set('gs://b/set')
    with pytest.raises(InputError, match='not a complete record set'):
        records.open_records('gs://b/set')
    make(settings, run)
    assert len(records.open_records('gs://b/set')) == 30


@pytest.mark.parametrize('damage', ['flip', 'cut', 'remove'])
def test_a_damaged_shard_is_named(tmp_path, damage):
    settings = settings_of(tmp_path)
    make(settings, run)
    manifest = records.open_records(settings.out)
    shard = Path(manifest.store.shards[0])
    data = bytearray(shard.read_bytes())
    _, record, offset, length = manifest.store.places[manifest.split == 'test'][0].tolist()
    image = manifest.store.read(np.flatnonzero(manifest.split == 'test')[:1])[0]
    at = bytes(data).index(image)
    assert length == len(image) and record == 0 and offset > 0
    if damage == 'flip':
        data[at + length // 2] ^= 0x10
        shard.write_bytes(data)
    elif damage == 'cut':
        shard.write_bytes(data[: len(data) // 2])
    else:
        shard.unlink()
    records._reader.cache_clear()
    table = read_headers(manifest, np.arange(len(manifest)), 3)
    with pytest.raises(InputError) as caught:
        for row in np.flatnonzero(manifest.split == 'test').tolist():
            decode(table, row)
    assert str(shard) in str(caught.value) and '\n' not in str(caught.value)
