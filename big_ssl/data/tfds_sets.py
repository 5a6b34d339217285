"""`dataset.name=tfds:NAME`: image sets of TensorFlow Datasets, stored as array_record.

Each record is an image. Its features are columns: `label`, `case_id` and `patient_id`, or those
that `dataset.columns` names; the other scalars go along.
"""

import hashlib
import io
import itertools
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordReader
from tqdm import tqdm

from big_ssl.data import image_files, records
from big_ssl.data import manifest as manifest_lib
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError
from big_ssl.files import cache_folder

log = logging.getLogger(__name__)

_FORMAT = 'array_record'
_AT_ONCE, _ROWS_AT_ONCE = 256, 50_000  # records read, rows held as Python's own
_HEADERS = 2  # raise it when `image_files.header` says something else of the same file


def open_tfds(
    name: str, data_dir: str | None, columns: Mapping[str, str], split_seed: int | None = 0
) -> Manifest:
    """Opens a prepared TFDS image set; its first opening looks at every record.

    Args:
      name: as TFDS takes it: NAME, NAME/CONFIG, NAME:VERSION.
      data_dir: of TFDS; default its own, ~/tensorflow_datasets.
      columns: our name → the feature.
      split_seed: as in `manifest.checked`.

    Raises:
      InputError: it is not there, not stored as array_record, or holds no images.
    """
    builder = _builder(name, data_dir)
    shards = [path for split in sorted(builder.info.splits) for path in _shards(builder, split)]
    image = _image_feature(name, builder.info.features, columns['image_path'])
    cache = _cache(shards, image)
    if not cache.exists():
        log.info('tfds:%s: looking at every record, once; kept in %s', name, cache)
        index = _table(_rows(name, builder, image))
        partial = cache.with_name(f'{cache.name}.{os.getpid()}')
        cache.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(index, partial)
        partial.replace(cache)
    index = pq.read_table(cache)
    for ours in ('case_id', 'patient_id', 'label'):
        index = _as_column(index, ours, columns[ours], name)
    own = manifest_lib.OWN_NAMES
    return records.manifest_of(index, f'tfds:{name}', shards, own, split_seed)


def _builder(name: str, data_dir: str | None) -> Any:
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir, try_gcs=False)
    except Exception as error:  # whatever TFDS says of a name that it does not know
        reason = ' '.join(str(error).split(' Available datasets')[0].split())[:300]
        raise InputError(
            f'config: dataset.name=tfds:{name}: TFDS cannot open it: {reason}'
        ) from None
    folder = builder.data_path
    if not builder.info.splits:
        where = '' if data_dir is None else f', data_dir={data_dir!r}'
        raise InputError(
            f'config: dataset.name=tfds:{name} is not prepared in {folder}; python -c "import '
            f"tensorflow_datasets as tfds; tfds.builder('{name}', file_format='array_record'"
            f'{where}).download_and_prepare()"'
        )
    kept = [builder.info.file_format.value, *builder.info.as_proto.alternative_file_formats]
    if _FORMAT not in kept:
        raise InputError(
            f'config: dataset.name=tfds:{name} is stored as {kept[0]}; to have it as '
            'array_record too: pip install apache-beam mlcroissant; tfds convert_format '
            f'--dataset_version_dir={folder} --out_file_format=array_record'
        )
    return builder


def _shards(builder: Any, split: str) -> list[str]:
    """Paths of a split's array_record files, which may lie beside those of another format."""
    info = builder.info.splits[split]
    template = info.filename_template.replace(filetype_suffix=_FORMAT)
    return [str(path) for path in template.sharded_filepaths(info.num_shards)]


def _image_feature(name: str, features: Any, chosen: str) -> str:
    import tensorflow_datasets as tfds

    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    if chosen != 'image_path' and chosen not in images or not images:
        found = ', '.join(images) or 'none'
        raise InputError(
            f'config: tfds:{name}: no image feature{f" {chosen!r}" if images else ""} (found: '
            f'{found}; features: {", ".join(features)})'
        )
    if chosen == 'image_path' and len(images) > 1:
        raise InputError(
            f'config: tfds:{name} has the image features {", ".join(images)}; choose one by '
            '--config.dataset.columns.image_path=NAME'
        )
    return images[0] if chosen == 'image_path' else chosen


def _cache(shards: list[str], image: str) -> Path:
    digest = hashlib.sha256(image.encode())
    for path in shards:
        facts = Path(path).stat()
        digest.update(f'{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0'.encode())
    return cache_folder() / f'tfds-v{records.FORMAT}-{_HEADERS}-{digest.hexdigest()[:16]}.parquet'


def _table(rows: Iterator[dict[str, str | int]]) -> pa.Table:
    parts = []
    while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
        parts.append(pa.Table.from_pylist(some))
    return pa.concat_tables(parts)


def _rows(name: str, builder: Any, image: str) -> Iterator[dict[str, str | int]]:
    """What `records.manifest_of` needs, with every scalar feature as a further column."""
    total = sum(split.num_examples for split in builder.info.splits.values())
    scalars = _scalars(builder.info.features)
    bar = tqdm(total=total, desc=f'tfds:{name}', unit=' images', disable=None)
    shard = -1
    with bar:
        for split in sorted(builder.info.splits):
            number = 0
            for path in _shards(builder, split):
                shard += 1
                for record, data in enumerate(_records(path)):
                    where = f'{split} record {number}'
                    yield {
                        'image_path': f'{split}/{number:09d}',
                        'split': split,
                        records.LISTED_IN: where,
                        'shard': shard,
                        'record': record,
                        **_facts(data, image, f'tfds:{name}: {where}', scalars),
                    }
                    number += 1
                    bar.update()


def _records(path: str) -> Iterator[bytes]:
    reader = ArrayRecordReader(path, 'readahead_buffer_size:0')
    count = reader.num_records()
    for start in range(0, count, _AT_ONCE):
        yield from reader.read(list(range(start, min(start + _AT_ONCE, count))))


def _facts(data: bytes, image: str, where: str, scalars: Mapping[str, Any]) -> dict[str, str | int]:
    from tensorflow.core.example import example_pb2

    features = example_pb2.Example.FromString(data).features.feature
    encoded = features[image].bytes_list.value[0]
    try:
        with image_files.open_image(io.BytesIO(encoded)) as opened:
            header = image_files.header(opened)
    except ValueError as error:
        raise InputError(f'{where}: {image}: {error}') from None
    return {
        'offset': data.index(encoded),
        'bytes': len(encoded),
        **header._asdict(),
    } | {records.FURTHER + key: _text(features[key], scalars[key]) for key in scalars}


def _text(value: Any, feature: Any) -> str:
    """A scalar feature as text, a class by its name; '' where it is missing or below 0."""
    kind = value.WhichOneof('kind')
    if kind is None:
        return ''
    content = getattr(value, kind).value[0]
    if kind == 'bytes_list':
        return content.decode(errors='replace').strip()
    if not hasattr(feature, 'int2str'):
        return str(content)
    return feature.int2str(content) if content >= 0 else ''


def _scalars(features: Any) -> dict[str, Any]:
    """Features with one value a record."""
    return {
        key: feature
        for key, feature in features.items()
        if getattr(feature, 'shape', None) == () and not isinstance(feature, dict)
    }


def _as_column(index: pa.Table, ours: str, theirs: str, name: str) -> pa.Table:
    """A further column under one of our names; '' where there is none and none is asked for."""
    found = [key.removeprefix(records.FURTHER) for key in index.column_names
             if key.startswith(records.FURTHER)]  # fmt: skip
    if theirs in found:
        column = records.FURTHER + theirs
        place = index.column_names.index(column)
        return index.append_column(ours, index[column]).remove_column(place)
    if theirs != ours:
        raise InputError(
            f'config: tfds:{name} has no feature {theirs!r} with one value a record; '
            f'found: {", ".join(found)}'
        )
    return index.append_column(ours, pa.array([''] * len(index)))
