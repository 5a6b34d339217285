"""TensorBoard's event files, written without TensorFlow, which tensorboard's own writer imports."""

import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata
from tensorboard.summary.writer.record_writer import RecordWriter


class EventFileWriter:
    """A new event file in a local folder; each event is in the file when `add_event` returns."""

    def __init__(self, folder: str) -> None:
        seconds, rest = divmod(time.time_ns(), 10**9)
        host = f'{socket.gethostname()}.{os.getpid()}.{rest}'
        path = Path(folder) / f'events.out.tfevents.{seconds:010d}.{host}'
        self._records = RecordWriter(path.open('xb'))
        source = SourceMetadata(writer='big_ssl')
        self.add_event(Event(file_version='brain.Event:2', source_metadata=source))

    def add_event(self, event: Event) -> None:
        """Writes an event; one without a `wall_time` gets this moment's."""
        event.wall_time = event.wall_time or time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._records.close()
