"""Batches of views against the bare functions that they are made by: what tf.data, files and
records add.

On one core: two threads of a machine slow each other down whatever they do, which is not ours. A
pipeline is opened once and stays open, as training's does.
"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.host_images import CROP, SIZE, Images, crop_views, open_images
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Summary, Target
from benchmarks.side_by_side import Cost, Way, alternately, here, milliseconds, ratio
from big_ssl import prepare
from big_ssl.data.images import encoded
from big_ssl.data.pipeline import arrays_of, training_batches

_SIDES = (375, 500)
_BATCH = 64
_PAIRS = {'simclr': 'augment', 'micle': 'case'}
_SOURCES = ('files', 'records')
_ALL_CORES = '_all_cores'


def measured(quick: bool) -> Found:
    """Costs of an example in a batch, and of reading an image without decoding it."""
    # Short turns: noise lasts seconds.
    count, steps, repeats = (16, 1, 2) if quick else (512, 8, 25)
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
        reads = {f'reading/{way}': here(_reading(images)) for way, images in opened.items()}
        figures |= milliseconds(alternately(reads, repeats))
    return Found(
        f'batches of {_BATCH} pairs of {SIZE}-px views from JPEGs of {_SIDES[1]} x {_SIDES[0]}, '
        'time an example, on one core; ratios of CPU time',
        figures | ratios,
        [Target(name, '<=', 1.1) for name in ratios if name.endswith('_over_bare')],
        (
            'bare: decode and crop of the same images and boxes, in one thread, encoded images in '
            'memory',
            f'{_ALL_CORES}: not on one; speed_of_all_cores: how much faster that is by the clock',
            'reading: one encoded image alone, in random order, from the cache of the system',
        ),
    )


def _batches(opened: Mapping[str, Images], steps: int, repeats: int) -> Mapping[str, list[Cost]]:
    """By the bare functions, and by the pipeline from each source."""
    files = opened['files']
    data, plans = files.encoded(), map(files.plan, itertools.count())
    turns = iter([list(itertools.islice(plans, steps)) for _ in range(1 + repeats)])
    ways = {'bare': here(lambda: sum(crop_views(files, data, plan) for plan in next(turns)))}
    ways |= {way: here(_next_batches(images, steps)) for way, images in opened.items()}
    ways = {name: _on_one_core(way) for name, way in ways.items()}
    all_cores = here(_next_batches(opened['records'], steps))
    return alternately(ways | {f'records{_ALL_CORES}': all_cores}, repeats)


def _next_batches(images: Images, steps: int) -> Callable[[], int]:
    """Each call takes this many batches more, and returns when as many are under way as before."""
    batches = _pipeline(images)

    def turn() -> int:
        examples = sum(map(len, itertools.islice(batches, steps)))
        _wait_until_idle()
        return examples

    return turn


def _pipeline(images: Images) -> Iterator[np.ndarray]:
    """Its threads start with the first batch, on the cores that are allowed then."""
    endless, raised = range(np.iinfo(np.int64).max), []
    settings = {'size': SIZE, 'crop': CROP, 'raised': raised}
    dataset = training_batches(images.table, images.sampler, endless, slice(None), **settings)
    return (batch['views'] for batch in arrays_of(dataset, raised))


def _wait_until_idle() -> None:
    """Until no thread of this process computes."""
    before = -1.0
    while time.process_time() - before > 1e-3:
        before = time.process_time()
        time.sleep(0.01)


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


def _reading(images: Images) -> Callable[[], int]:
    order = np.random.default_rng(0).permutation(images.rows)
    return lambda: sum(len(encoded(images.table, row)) for row in order[:, None])
