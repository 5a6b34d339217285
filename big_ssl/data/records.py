"""Reading what `big_ssl.prepare` wrote: cases in array_record shards, and an index of their images.

A record is a case, a serialised `tf.train.Example` as TFDS writes it. The index has a row for each
image with its ids, label and split, the header facts of the image, and where its bytes stand in its
record: an image is a slice of a record, and nothing has to be parsed.
"""

import dataclasses
import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath
from jaxtyping import Bool, Int, UInt8

from big_ssl.data import manifest as manifest_lib
from big_ssl.data.integers import narrow
from big_ssl.data.manifest import Manifest
from big_ssl.data.text import frame
from big_ssl.errors import InputError
from big_ssl.files import cache_folder, is_remote

if TYPE_CHECKING:
    from array_record.python.array_record_module import ArrayRecordReader

log = logging.getLogger(__name__)

INDEX, ABOUT, FORMAT = 'index.parquet', 'prepared.json', 1
LISTED_IN, HASH = 'listed_in', 'perceptual_hash'  # columns
FURTHER = 'table/'  # begins the names of the table's further columns
PLACE = ('shard', 'record', 'offset', 'bytes')
FACTS = (*PLACE, 'height', 'width', 'format', 'orientation', 'grey')
_BUFFER = 2**16  # bytes of a shard read at a time: of its own 2**20 most are not asked for


@dataclasses.dataclass(frozen=True)
class Records:
    """Images that are slices of records; see `manifest.Store`.

    Attributes:
      sizes: [n, 2] height and width of the upright image.
      formats: [n] of `data.image_files`.
      orientations: [n] EXIF's number.
      grey: [n] one channel.
      places: [n, 4] number of the shard, number of the record in it, offset and length in bytes.
      shards: paths.
    """

    sizes: Int[np.ndarray, 'n 2']
    formats: UInt8[np.ndarray, ' n']
    orientations: UInt8[np.ndarray, ' n']
    grey: Bool[np.ndarray, ' n']
    places: Int[np.ndarray, 'n 4']
    shards: Sequence[str]

    def read(self, rows: Int[np.ndarray, ' k']) -> list[bytes]:
        """The encoded image of each of these rows of the manifest.

        Raises:
          InputError: a shard is missing or damaged.
        """
        records: dict[tuple[int, int], bytes] = {}
        found = []
        for shard, number, start, length in self.places[rows].tolist():
            if (shard, number) not in records:
                records[shard, number] = _record(self.shards[shard], number)
            found.append(records[shard, number][start : start + length])
            if len(found[-1]) < length:
                raise InputError(f'{self.shards[shard]}: damaged: a record ends too early')
        return found


def _record(path: str, number: int) -> bytes:
    try:
        return _reader(path).read([number])[0]  # one by one: many at once take half as long again
    except (RuntimeError, ValueError, OSError, IndexError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'{path}: damaged or missing: {reason}') from None


@functools.lru_cache(maxsize=512)
def _reader(path: str) -> 'ArrayRecordReader':
    from array_record.python.array_record_module import ArrayRecordReader  # where there are records

    local = _local_copy(path) if is_remote(path) else path
    return ArrayRecordReader(local, 'readahead_buffer_size:0', file_reader_buffer_size=_BUFFER)


def _local_copy(path: str) -> str:
    """A remote shard in `cache_folder()`: array_record reads local files only."""
    facts = epath.Path(path).stat()
    digest = hashlib.sha256(f'{path}\0{facts.length}\0{facts.mtime}'.encode()).hexdigest()[:16]
    file = cache_folder() / f'records-{digest}'
    if not file.exists():
        log.info('copying %s (%.0f MiB) to %s', path, facts.length / 2**20, file)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f'{file.name}.{os.getpid()}')
        partial.write_bytes(epath.Path(path).read_bytes())
        partial.replace(file)
    return str(file)


def is_record_set(folder: str) -> bool:
    """Whether a complete record set is there."""
    return (epath.Path(folder) / ABOUT).exists()


def open_records(
    folder: str, columns: Mapping[str, str] = manifest_lib.OWN_NAMES, split_seed: int | None = 0
) -> Manifest:
    """Opens a record set; no shard is read.

    Args:
      folder: that `big_ssl.prepare` made.
      columns: our name → that of a further column which is to be read in its place.
      split_seed: as in `manifest.checked`.

    Raises:
      InputError: it is not complete, or of another version.
    """
    path = epath.Path(folder)
    try:
        about = json.loads((path / ABOUT).read_text())
        index = _read_index(path / INDEX)
    except (OSError, ValueError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'{folder}: not a complete record set: {reason}') from None
    if about['format'] != FORMAT:
        raise InputError(
            f'{folder}: a record set of format {about["format"]}, this version of big_ssl reads '
            f'{FORMAT}; prepare it again'
        )
    shards = [str(path / name) for name in about['shards']]
    return manifest_of(index, folder, shards, columns, split_seed)


def _read_index(file: epath.Path) -> pa.Table:
    """Without hashes."""
    data = pa.BufferReader(file.read_bytes())
    names = [name for name in pq.read_schema(data).names if name != HASH]
    data.seek(0)
    return pq.ParquetFile(data).read(names, use_threads=False)


def manifest_of(
    index: pa.Table,
    path: str,
    shards: Sequence[str],
    columns: Mapping[str, str],
    split_seed: int | None,
) -> Manifest:
    """The checked table of an index, which knows where its images are.

    Args:
      index: a row an image: `manifest.COLUMNS`, `LISTED_IN`, `FACTS`, and further columns whose
        names begin with `FURTHER`.
      path: for messages.
      shards: paths.
      columns, split_seed: as in `open_records`.

    Raises:
      InputError: as `manifest.checked`.
    """
    texts = {
        name.removeprefix(FURTHER): index[name].cast(pa.string())
        for name in index.column_names
        if name in manifest_lib.COLUMNS or name.startswith(FURTHER)
    }
    manifest = manifest_lib.checked(
        frame(texts, pd.RangeIndex(len(index))),
        path,
        columns=columns,
        root=None,
        split_seed=split_seed,
        listed_in=index[LISTED_IN].cast(pa.string()),
    )
    facts = {name: index[name].to_numpy() for name in FACTS}
    store = Records(
        sizes=narrow(np.stack([facts['height'], facts['width']], axis=1)),
        formats=facts['format'].astype(np.uint8),
        orientations=facts['orientation'].astype(np.uint8),
        grey=facts['grey'].astype(bool),
        places=narrow(np.stack([facts[name] for name in PLACE], axis=1)),
        shards=shards,
    )
    return dataclasses.replace(manifest, store=store)
