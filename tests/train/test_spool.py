"""Files that grow, in a bucket whose objects cannot."""

import json
from pathlib import Path

from etils import epath
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from big_ssl.train import spool as spool_lib
from big_ssl.train.spool import Spool
from big_ssl.train.writers import MetricsWriter


def test_a_local_workdir_is_its_own_spool(tmp_path):
    spool = Spool(epath.Path(tmp_path))
    assert spool.folder == epath.Path(tmp_path)
    (spool.folder / 'a').write_text('x')
    spool.close()
    assert (tmp_path / 'a').read_text() == 'x'


def test_only_what_changed_is_copied(gs):
    spool = Spool(epath.Path('gs://bucket/run'))
    (spool.folder / 'plugins').mkdir()
    (spool.folder / 'plugins/a').write_text('1')
    (spool.folder / 'b').write_text('2')
    spool.flush()
    there = gs / 'bucket/run'
    assert (there / 'plugins/a').read_text() == '1' and (there / 'b').read_text() == '2'
    for name in ('plugins/a', 'b'):
        (there / name).unlink()
    (spool.folder / 'b').write_text('22')
    spool.flush()
    assert not (there / 'plugins/a').exists() and (there / 'b').read_text() == '22'
    local = str(spool.folder)
    spool.close()
    assert not Path(local).exists()


def test_a_minute_passes_before_it_copies_unasked(gs, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(spool_lib.time, 'monotonic', lambda: now[0])
    spool = Spool(epath.Path('gs://bucket/run'))
    (spool.folder / 'a').write_text('1')
    for seconds, copied in ((30, False), (29, False), (2, True)):
        now[0] += seconds
        spool.rest()
        assert (gs / 'bucket/run/a').exists() == copied


def test_metrics_and_events_reach_the_bucket_whole(gs):
    workdir = epath.Path('gs://bucket/run')
    writer = MetricsWriter(workdir, 0)
    writer.write(1, 'train', {'loss': 3.0})
    writer.flush()  # before the checkpoint of step 1; what follows is lost by a kill
    writer.write(2, 'train', {'loss': 2.0})
    resumed = MetricsWriter(workdir, 1)
    resumed.write(2, 'train', {'loss': 2.5})
    resumed.close()
    lines = (gs / 'bucket/run/metrics.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {'step': 1, 'split': 'train', 'loss': 3.0},
        {'step': 2, 'split': 'train', 'loss': 2.5},
    ]
    accumulator = EventAccumulator(str(gs / 'bucket/run')).Reload()
    found = [
        (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
        for event in accumulator.Tensors('train/loss')
    ]
    assert found == [(1, 3.0), (2, 2.5)]
