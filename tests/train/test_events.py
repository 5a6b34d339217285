import subprocess
import sys

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from big_ssl.train.events import EventFileWriter


def test_tensorboard_reads_what_was_written(tmp_path):
    for value in (0.5, 0.25):  # two in the same second
        writer = EventFileWriter(str(tmp_path))
        tag = Summary.Value(tag='train/loss', simple_value=value)
        writer.add_event(Event(step=3, summary=Summary(value=[tag])))
        writer.close()
    found = []
    for path in sorted(tmp_path.iterdir()):
        first, event = EventFileLoader(str(path)).Load()
        assert first.file_version == 'brain.Event:2' and first.wall_time > 1.7e9
        assert event.step == 3 and event.wall_time >= first.wall_time
        found.append(event.summary.value[0].tensor.float_val[0])
    assert found == [0.5, 0.25]


def test_without_tensorflow(tmp_path):
    code = (
        'import sys\nfrom big_ssl.train.events import EventFileWriter\n'
        f'EventFileWriter({str(tmp_path)!r}).close()\nsys.exit("tensorflow" in sys.modules)\n'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
