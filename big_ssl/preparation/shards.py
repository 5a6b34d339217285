"""Cases as records: which case goes into which shard, and writing one shard."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from array_record.python.array_record_module import ArrayRecordWriter

from big_ssl.data import tfds_layout
from big_ssl.errors import InputError
from big_ssl.preparation import pictures, scan
from big_ssl.preparation.pictures import Reading

_OPTIONS = 'group_size:1,uncompressed'  # one record is read without its neighbours


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records.

    Attributes:
      name: of the file.
      split: '' for images without one.
      images: those in it, by `record`, their case's number in the file.
    """

    name: str
    split: str
    images: pd.DataFrame


def plan(images: pd.DataFrame, shard_bytes: int) -> list[Shard]:
    """Cases in order of their first image, split by split, cut where a shard is full.

    Args:
      images: a row an image: `split`, `case` (a name for each case), `size` in bytes.
      shard_bytes: of source files, after which a shard is full.
    """
    shards: list[Shard] = []
    for split in sorted(set(images['split'])):
        part = images[images['split'] == split]
        case, _ = pd.factorize(part['case'])
        sizes = np.bincount(case, weights=part['size'])
        full = (np.cumsum(sizes) - sizes) // shard_bytes
        starts = np.flatnonzero(np.diff(full, prepend=-1))  # the first case of each shard
        number = np.searchsorted(starts, case, side='right') - 1
        ordered = part.assign(record=case - starts[number], number=number)
        ordered = ordered.iloc[np.argsort(case, kind='stable')]
        for i, chosen in ordered.groupby('number', sort=True):
            name = tfds_layout.file_name(split, i, len(starts))
            shards.append(Shard(name, split, chosen.drop(columns='number')))
    return shards


def write(path: Path, images: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """Writes the records of a shard.

    Args:
      path: of the new file.
      images: of a `Shard`: `record`, `source` and `frame`, `sha256` of the source as it was looked
        at, `where` it is listed; `image_path`, `case_id`, `patient_id`, `label` as stored.
      reading: how the sources are read.

    Returns:
      `record`, `offset` and `bytes` of each image, under its index.

    Raises:
      InputError: a source has changed since.
    """
    places: dict[Any, tuple[int, int, int]] = {}
    writer = ArrayRecordWriter(str(path), _OPTIONS)
    try:
        for _, case in images.groupby('record', sort=True):
            encoded = list(_encoded(case, reading))
            record = _record(case, encoded)
            writer.write(record)
            start = 0
            for image, data in zip(case.index, encoded):
                start = record.index(data, start)
                places[image] = (int(case['record'].iloc[0]), start, len(data))
                start += len(data)
    finally:
        writer.close()
    return pd.DataFrame.from_dict(places, 'index', columns=['record', 'offset', 'bytes'])


def case_label(labels: Sequence[str]) -> str:
    """The label that all labelled images of a case have; '' where they differ or none has one."""
    known = {label for label in labels if label}
    return known.pop() if len(known) == 1 else ''


def _encoded(case: pd.DataFrame, reading: Reading) -> Iterator[bytes]:
    columns = (case[name].tolist() for name in ('source', 'frame', 'sha256', 'where'))
    for source, frame, sha256, where in zip(*columns):
        try:
            data = scan.read_source(source)
            if scan.digest(data) != sha256:
                raise ValueError('has changed since it was looked at; run the command again')
            yield pictures.picture(data, frame, reading).data
        except ValueError as error:
            raise InputError(f'{where}: {source}: {error}') from None


def _record(case: pd.DataFrame, encoded: Sequence[bytes]) -> bytes:
    first, labels = case.iloc[0], case.label.tolist()
    paths = case.image_path.tolist()
    return tfds_layout.record(
        first.case_id, first.patient_id, case_label(labels), labels, paths, encoded
    )
