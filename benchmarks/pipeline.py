"""Batches of views against the bare functions that they are made by: what threads, files and
records add.

On one core: two threads of a machine slow each other down whatever they do, which is not ours.
"""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.host_images import CROP, SIZE, Images, crop_views, open_images
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Summary, Target
from benchmarks.side_by_side import Cost, Way, alternately, here, milliseconds, ratio
from big_ssl import prepare
from big_ssl.data.images import encoded
from big_ssl.data.pipeline import host_batches

_SIDES = (375, 500)
_BATCH = 64
_PAIRS = {'simclr': 'augment', 'micle': 'case'}
_SOURCES = ('files', 'records')
_ALL_CORES = '_all_cores'


def measured(quick: bool) -> Found:
    """Costs of an example in a batch, and of reading an image without decoding it."""
    # Short turns, as noise lasts seconds, but of more batches than are under way at a time.
    count, steps, repeats = (16, 1, 2) if quick else (512, 8, 15)
    figures: dict[str, Summary] = {}
    ratios: dict[str, Summary] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = write_photographs(Path(folder) / 'images', count, *_SIDES, images_per_case=2)
        records = str(Path(folder) / 'records')
        prepare.run([f'--manifest={table}', f'--out={records}', '--workers=1'])
        for name, pairing in _PAIRS.items():
            opened = {
                'files': open_images(pairing, _BATCH, manifest=table),
                'records': open_images(pairing, _BATCH, records=records),
            }
            costs = _batches(opened, steps, repeats)
            figures |= milliseconds({f'{name}/{way}': each for way, each in costs.items()})
            ratios |= {
                f'{name}/{way}_over_bare': ratio(costs[way], costs['bare']) for way in _SOURCES
            }
            one, all_cores = (costs[f'records{where}'] for where in ('', _ALL_CORES))
            ratios[f'{name}/speed_of_all_cores'] = ratio(one, all_cores, 'wall')
        reads = {way: here(lambda images=images: _read(images)) for way, images in opened.items()}
        reading = alternately(reads, repeats)
    figures |= milliseconds({f'reading/{way}': each for way, each in reading.items()})
    return Found(
        f'batches of {_BATCH} pairs of {SIZE}-px views from JPEGs of {_SIDES[1]} x {_SIDES[0]}, '
        'time an example, on one core; ratios of CPU time',
        figures | ratios,
        [Target(name, '<=', 1.1) for name in ratios if name.endswith('_over_bare')],
        (
            'bare: decode and crop of the same images and boxes, in one thread, encoded images in '
            'memory',
            f'{_ALL_CORES}: not on one; speed_of_all_cores: how much faster that is by the clock',
            'reading: the encoded images alone, in random order, from the cache of the system',
        ),
    )


def _batches(opened: Mapping[str, Images], steps: int, repeats: int) -> Mapping[str, list[Cost]]:
    """By the bare functions, and by the pipeline from each source."""
    files = opened['files']
    data, plans = files.encoded(), [files.plan(step) for step in range(steps)]

    def from_source(images: Images) -> int:
        batches = host_batches(
            images.table, images.sampler, range(steps), slice(None), size=SIZE, **CROP
        )
        return sum(len(batch) for batch in batches)

    batches = {
        way: here(lambda images=images: from_source(images)) for way, images in opened.items()
    }
    ways = {'bare': here(lambda: sum(crop_views(files, data, plan) for plan in plans))} | batches
    ways = {name: _on_one_core(way) for name, way in ways.items()}
    return alternately(ways | {f'records{_ALL_CORES}': batches['records']}, repeats)


def _on_one_core(way: Way) -> Way:
    """With all threads that it starts."""

    def pinned() -> Cost:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            return way()
        finally:
            os.sched_setaffinity(0, cores)

    return pinned


def _read(images: Images) -> int:
    order = np.random.default_rng(0).permutation(images.rows)
    starts = range(0, len(order), _BATCH)
    return sum(len(encoded(images.table, order[start : start + _BATCH])) for start in starts)
