"""From a table of images to a record set: look at every image, divide, write, and only then show.

The work goes on in OUT.partial, whose pieces a run that was killed finds again; OUT appears in one
step when it is complete.
"""

import dataclasses
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from array_record.python.array_record_module import ArrayRecordReader
from etils import epath

from big_ssl import __version__, processes
from big_ssl.data import manifest as manifest_lib
from big_ssl.data import records, tfds_layout
from big_ssl.data.cases import case_names
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError
from big_ssl.files import is_remote
from big_ssl.preparation import dividing, listing, page, shards
from big_ssl.preparation.dividing import Divided
from big_ssl.preparation.duplicates import Duplicates
from big_ssl.preparation.folders import DUPLICATES, REJECTED, Folders, place
from big_ssl.preparation.settings import FAIL, Settings
from big_ssl.preparation.work import Scan, Task, Write

log = logging.getLogger(__name__)

Run = Callable[[Sequence[Task], str], None]
REPORT = 'data_report.html'
_SCANNED_AT_ONCE = 256  # source files
_REJECTED_COLUMNS = ['listed_in', 'image_path', 'case_id', 'patient_id', 'problem']


def make(settings: Settings, run: Run) -> None:
    """Makes the record set, unless it is there.

    Args:
      settings: what is asked.
      run: does pieces of work, and says what they are.

    Raises:
      InputError: naming file, row and column; nothing is left at `settings.out`.
    """
    manifest, announcements = listing.read(settings)
    _check_names(manifest)
    has_splits = bool((manifest.split != '').any())
    known = _known(settings, has_splits)
    hashed = listing.hasher(settings) if settings.hash_ids else None
    folders = Folders.of(settings.out)
    identity = _identity(manifest, known, settings)
    if folders.is_complete(identity):
        log.info('already done: %s', folders.out)
        return
    folders.make()
    busy = f'{folders.work}: another run is at work here'
    with processes.alone(folders.work / 'lock', busy, patience=10):
        folders.claim(identity)
        images = _table(manifest, listing.stored_names(manifest, hashed))
        scanned = _scan(images, folders, settings, run)
        images, rejected = _usable(images, scanned, folders, settings)
        compared = None
        if not has_splits:
            split, lines, compared = dividing.made(images, settings, known)
            images, announcements = images.assign(split=split), announcements + lines
        divided = _apart(images, compared, folders, settings)
        announcements += divided.announcements
        rejected = pd.concat([rejected, divided.dropped[_REJECTED_COLUMNS]]).sort_index()
        index, names = _write(divided.images, folders, settings, run)
        announcements += _disagreeing(index)
        for line in announcements:
            log.warning('%s', line)
        _describe(index, names, folders, rejected)
        found = page.Found(index, divided, rejected, announcements, settings)
        page.write(folders.set / REPORT, found)
        about = {'shards': names, 'images': len(index), 'cases': int(index['case'].nunique())}
        folders.complete(about, identity)
    log.info('done: %s', folders.out)


def _check_names(manifest: Manifest) -> None:
    """Names of splits become names of files and of TFDS's splits."""
    taken = (tfds_layout.UNSPLIT, manifest_lib.ALL)
    for name in sorted(set(manifest.split) - {''}):
        if name in taken or not re.fullmatch(r'[A-Za-z0-9_]+', name):
            row = int(np.flatnonzero(manifest.split == name)[0])
            raise InputError(
                f'{manifest.where(row)}: split {name!r} cannot be the name of a file; use letters '
                f'A to Z, digits and _ (and not {taken[0]!r} or {taken[1]!r})'
            )


def _identity(manifest: Manifest, known: dict[str, str], settings: Settings) -> dict[str, Any]:
    """What a record set depends on, as plain JSON without paths."""
    digest = hashlib.sha256(manifest.fingerprint().encode())
    digest.update(manifest.further.to_csv().encode())
    asked = dataclasses.asdict(settings)
    for name in ('out', 'manifest', 'raw', 'image_root', 'salt_file'):
        del asked[name]
    splits_from = json.dumps(known, sort_keys=True) if known else ''
    asked['splits_from'] = hashlib.sha256(splits_from.encode()).hexdigest() if known else ''
    identity = {'big_ssl': __version__, 'table': digest.hexdigest(), 'settings': asked}
    return json.loads(json.dumps(identity))


def _table(manifest: Manifest, stored: dict[str, np.ndarray]) -> pd.DataFrame:
    """A row for each image: where it is, and what is stored of it."""
    rows = np.arange(len(manifest))
    name = Path(manifest.path).name
    short = (
        np.array([f'{name} row {line}' for line in manifest.lines], object)
        if manifest.listed_in is None
        else manifest.listed_in[:]
    )
    table = pd.DataFrame(
        {
            **stored,
            'label': manifest.label[:],
            'split': manifest.split[:],
            'source': manifest.image_path[:],
            'listed_in': short,
            'where': [manifest.where(row) for row in rows.tolist()],
            'case': case_names(manifest, rows),
        }
    )
    further = manifest.further.astype(object).add_prefix(records.FURTHER)
    return pd.concat([table, further.set_index(table.index)], axis=1)


def _scan(images: pd.DataFrame, folders: Folders, settings: Settings, run: Run) -> pd.DataFrame:
    paths = images['source'].tolist()
    tasks = [
        Scan(
            output=str(folders.scan / f'{start:09d}.parquet'),
            reading=settings.reading,
            paths=paths[start : start + _SCANNED_AT_ONCE],
            rows=np.arange(start, min(start + _SCANNED_AT_ONCE, len(paths))),
        )
        for start in range(0, len(paths), _SCANNED_AT_ONCE)
    ]
    run(tasks, 'looking at images')
    found = [_read(task.output) for task in tasks]
    for task, part in zip(tasks, found):
        if settings.on_bad == FAIL and (part['problem'] != '').any():
            epath.Path(task.output).unlink()  # the next run looks at them again, mended perhaps
    return pd.concat(found, ignore_index=True)


def _usable(
    images: pd.DataFrame, scanned: pd.DataFrame, folders: Folders, settings: Settings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Images with what was seen of them, and those that cannot be used."""
    seen = images.iloc[scanned['row']].reset_index(drop=True)
    seen = pd.concat([seen, scanned.drop(columns='row')], axis=1)
    several = seen['frames'] > 1
    alone = several & (seen['case_id'] == '')  # frames of one file are a case
    seen['case_id'] = seen['case_id'].where(~alone, seen['image_path'])
    named = seen['image_path'] + '#' + seen['frame'].astype(str)
    seen['image_path'] = seen['image_path'].where(~several, named)
    bad = seen['problem'] != ''
    rejected = seen.loc[bad, _REJECTED_COLUMNS]
    if not bad.any():
        return seen, rejected
    first = seen[bad].iloc[0]
    complaint = f'{first["where"]}: {first["source"]}: {first["problem"]}'
    if settings.on_bad == FAIL:
        if bad.sum() > 1:
            file = folders.beside(REJECTED)
            place(file, rejected.to_csv(index=False).encode())
            complaint += f' ({bad.sum()} of {len(seen)} images cannot be used: {file})'
        raise InputError(f'{complaint}; --on_bad=skip leaves such images out')
    if bad.all():
        raise InputError(f'{complaint}; none of {len(seen)} images can be used')
    log.warning('%d of %d images cannot be used and are left out', bad.sum(), len(seen))
    return seen[~bad].drop(columns='problem'), rejected


def _known(settings: Settings, has_splits: bool) -> dict[str, str]:
    """The split of each unit of an earlier record set."""
    if not settings.splits_from:
        return {}
    if has_splits:
        raise InputError('--splits_from: the table has splits of its own; remove its column first')
    earlier = records.open_records(settings.splits_from)
    stored = pd.DataFrame({name: getattr(earlier, name)[:] for name in manifest_lib.COLUMNS})
    names = dividing.units(stored)
    return {name: split for name, split in zip(names.tolist(), earlier.split.tolist()) if split}


def _apart(
    images: pd.DataFrame, compared: Duplicates | None, folders: Folders, settings: Settings
) -> Divided:
    try:
        return dividing.apart(images, settings, compared)
    except dividing.InTwoSplits as error:
        file = folders.beside(DUPLICATES)
        place(file, error.table.to_csv(index=False).encode())
        raise InputError(f'{error}; all pairs: {file}') from None


def _write(
    images: pd.DataFrame, folders: Folders, settings: Settings, run: Run
) -> tuple[pd.DataFrame, list[str]]:
    """The images with their places in the shards, in the order of the table, and the shards."""
    planned = shards.plan(images, settings.shard_bytes)
    needed = ['record', 'source', 'frame', 'sha256', 'where']
    stored = ['image_path', 'case_id', 'patient_id', 'label']
    tasks = [
        Write(
            output=str(folders.parts / f'{shard.name}.parquet'),
            reading=settings.reading,
            shard=str(folders.set / shard.name),
            listed=shard.images[needed + stored],
        )
        for shard in planned
    ]
    try:
        run(tasks, 'writing records')
    except InputError:  # a source is not what it was
        folders.forget(scan=True)
        raise
    places = pd.concat([_read(task.output).assign(shard=i) for i, task in enumerate(tasks)])
    return images.join(places), [shard.name for shard in planned]


def _disagreeing(index: pd.DataFrame) -> tuple[str, ...]:
    labels = index[index['label'] != ''].groupby('case')['label'].nunique()
    if not (count := int((labels > 1).sum())):
        return ()
    return (
        f'the images of {count} cases have different labels: each image keeps its own, the case '
        'has none, and is judged image by image (--config.aggregate=none)',
    )


def _describe(
    index: pd.DataFrame, names: list[str], folders: Folders, rejected: pd.DataFrame
) -> None:
    """Writes the index, what was left out, and TFDS's metadata.

    Raises:
      InputError: a shard does not hold what was written.
    """
    further = [name for name in index.columns if name.startswith(records.FURTHER)]
    stored = [*manifest_lib.COLUMNS, records.LISTED_IN, *further, *records.FACTS]
    file = io.BytesIO()
    index[[*stored, records.HASH]].to_parquet(file, index=False)
    place(folders.set / records.INDEX, file.getvalue())
    if len(rejected):
        place(folders.set / REJECTED, rejected.to_csv(index=False).encode())
    held = 1 + index.groupby('shard')['record'].max()
    for name, count in zip(names, held):
        path = str(folders.set / name)
        if not is_remote(path) and ArrayRecordReader(path).num_records() != count:
            raise InputError(f'{path}: does not hold the {count} cases written; is the disk sound?')
    tfds_layout.write_metadata(folders.set, index)


def _read(path: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(epath.Path(path).read_bytes()))
