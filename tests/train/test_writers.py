import errno
import io
import json
import logging
import threading

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from big_ssl.train import writers
from big_ssl.train.writers import MetricsWriter, read_metrics


@pytest.fixture
def workdir(tmp_path) -> epath.Path:
    return epath.Path(tmp_path)


def written(workdir: epath.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def events(workdir: epath.Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(workdir)).Reload()
    return {
        tag: [
            (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()['tensors']
        if tag.startswith(('train/', 'val/'))
    }


def fill(workdir: epath.Path, resumed: int, steps: range, value: float, *, close: bool) -> None:
    """Flushed where it is not closed, as before each checkpoint."""
    writer = MetricsWriter(workdir, resumed, {'seed': 3, 'model': {'depth': 18}, 'none': None})
    for step in steps:
        if step:
            writer.write(step, 'train', {'loss': value + step, 'rate': 0.5})
        if step % 2 == 0:
            writer.write(step, 'val', {'auc': value - step})
    writer.close() if close else writer.flush()


def test_a_line_and_an_event_for_each_step_and_split(workdir):
    fill(workdir, 0, range(5), 10.0, close=True)
    assert written(workdir) == [
        {'step': 0, 'split': 'val', 'auc': 10.0},
        {'step': 1, 'split': 'train', 'loss': 11.0, 'rate': 0.5},
        {'step': 2, 'split': 'train', 'loss': 12.0, 'rate': 0.5},
        {'step': 2, 'split': 'val', 'auc': 8.0},
        {'step': 3, 'split': 'train', 'loss': 13.0, 'rate': 0.5},
        {'step': 4, 'split': 'train', 'loss': 14.0, 'rate': 0.5},
        {'step': 4, 'split': 'val', 'auc': 6.0},
    ]
    assert events(workdir) == {
        'train/loss': [(1, 11.0), (2, 12.0), (3, 13.0), (4, 14.0)],
        'train/rate': [(step, 0.5) for step in range(1, 5)],
        'val/auc': [(0, 10.0), (2, 8.0), (4, 6.0)],
    }


@pytest.mark.parametrize('close', [True, False], ids=['closed', 'killed'])
def test_a_resumed_run_drops_what_came_after_its_checkpoint(workdir, close):
    fill(workdir, 0, range(5), 10.0, close=close)
    fill(workdir, 2, range(3, 7), 20.0, close=True)
    steps = [(line['step'], line['split']) for line in written(workdir)]
    assert len(steps) == len(set(steps))
    losses = [(line['step'], line['loss']) for line in written(workdir) if 'loss' in line]
    expected = [(1, 11.0), (2, 12.0), (3, 23.0), (4, 24.0), (5, 25.0), (6, 26.0)]
    assert losses == expected
    assert events(workdir)['train/loss'] == expected
    assert events(workdir)['val/auc'] == [(0, 10.0), (2, 8.0), (4, 16.0), (6, 14.0)]


def test_a_run_that_starts_again_drops_everything(workdir):
    """Killed before its first checkpoint, it writes the figures of step 0 a second time."""
    fill(workdir, 0, range(3), 10.0, close=True)
    fill(workdir, 0, range(2), 20.0, close=True)
    assert [(line['step'], line['split']) for line in written(workdir)] == [
        (0, 'val'),
        (1, 'train'),
    ]
    assert events(workdir)['val/auc'] == [(0, 20.0)]


def test_pictures_and_settings(workdir):
    picture = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    png = io.BytesIO()
    Image.fromarray(picture).save(png, 'PNG')
    writer = MetricsWriter(workdir, 0, {'seed': 3, 'model': {'depth': 18, 'area': (0.1, 1.0)}})
    writer.images(7, {'pairs': png.getvalue()})
    writer.close()
    accumulator = EventAccumulator(str(workdir)).Reload()
    (event,) = accumulator.Tensors('pairs')
    width, height, shown = tensor_util.make_ndarray(event.tensor_proto)
    assert (event.step, width, height) == (7, b'9', b'12')
    np.testing.assert_array_equal(Image.open(io.BytesIO(shown)), picture)
    metadata = accumulator.SummaryMetadata('_hparams_/session_start_info')
    for name in (b'seed', b'model.depth', b'model.area.1'):
        assert name in metadata.plugin_data.content
    assert (workdir / 'metrics.jsonl').read_text() == ''


def test_no_values_no_line(workdir):
    writer = MetricsWriter(workdir, 0)
    writer.write(0, 'val', {})
    writer.close()
    assert written(workdir) == []


@pytest.mark.parametrize('ends', ['write', 'flush', 'close'])
def test_what_a_disk_refuses_is_raised_as_it_was(workdir, monkeypatch, ends):
    """In the thread that asked, at the next write, flush or close."""
    inside = []

    class Full(writers.JsonLines):
        def write_scalars(self, step, scalars):
            inside.append(threading.current_thread())
            raise OSError(errno.ENOSPC, 'No space left on device', 'metrics.jsonl')

    monkeypatch.setattr(writers, 'JsonLines', Full)
    writer = MetricsWriter(workdir, 0)
    writer.write(1, 'train', {'loss': 1.0})
    with pytest.raises(OSError, match='No space left on device') as caught:
        while ends == 'write':
            writer.write(2, 'train', {'loss': 1.0})
        getattr(writer, ends)()
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == 'metrics.jsonl'
    assert inside[0] is not threading.current_thread()


def test_what_tensorflow_says_of_a_full_disk_is_an_oserror(workdir, monkeypatch):
    class Full:
        def __getattr__(self, method):
            raise RuntimeError('{{node}} /run/events.v2; No space left on device\n\tnot flushed')

    monkeypatch.setattr(writers.metric_writers, 'SummaryWriter', lambda folder: Full())
    writer = MetricsWriter(workdir, 0)
    with pytest.raises(OSError, match='No space left on device') as caught:
        writer.flush()
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(workdir)


def test_without_tensorflow_there_are_the_lines_alone(workdir, monkeypatch, caplog):
    def refuse():
        raise ImportError('no module named tensorflow')

    caplog.set_level(logging.INFO, 'big_ssl')
    monkeypatch.setattr(writers, 'import_tensorflow', refuse)
    fill(workdir, 0, range(5), 10.0, close=True)
    assert len(written(workdir)) == 7
    assert [path.name for path in workdir.iterdir()] == ['metrics.jsonl']
    (line,) = (record.getMessage() for record in caplog.records)
    assert 'no TensorBoard events' in line and 'no module named tensorflow' in line


@pytest.mark.parametrize('rest', ['{"step": 4, "split": "tr', '{', '\0\0\0\0', '{"step": 4}\x00'])
def test_a_line_cut_off_by_a_kill_is_dropped(workdir, rest):
    fill(workdir, 0, range(4), 10.0, close=True)
    before = written(workdir)
    with (workdir / 'metrics.jsonl').open('a') as file:
        file.write(rest)
    assert read_metrics(workdir) == before
    fill(workdir, 3, range(4, 5), 10.0, close=True)
    assert [line['step'] for line in written(workdir)] == [0, 1, 2, 2, 3, 4, 4]


def test_no_metrics_yet(workdir):
    assert read_metrics(workdir) == []


def test_other_processes_write_nothing(workdir, monkeypatch):
    monkeypatch.setattr('jax.process_index', lambda: 1)
    fill(workdir, 0, range(4), 10.0, close=True)
    assert list(workdir.iterdir()) == []
