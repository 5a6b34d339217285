"""Batches of views against the bare functions that they are made by: what tf.data, files and
records add.

  python -m benchmarks.pipeline WAY PAIRING PATH CORES STEPS    # one way, for `side_by_side.Child`

On one core: two threads of a machine slow each other down whatever they do, which is not ours.
Each way is a process, confined to its cores before TensorFlow starts a thread. A pipeline is opened
once and stays open, as training's does.
"""

import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from benchmarks.host_images import CROP, SIZE, Images, crop_views, open_images
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Summary, Target
from benchmarks.side_by_side import Child, Cost, Way, alternately, here, milliseconds, ratio, serve
from big_ssl import prepare
from big_ssl.data.images import encoded
from big_ssl.data.pipeline import arrays_of, training_batches

_SIDES = (375, 500)
_BATCH = 64
_PAIRS = {'simclr': 'augment', 'micle': 'case'}
_SOURCES = ('files', 'records')
_ALL_CORES = '_all_cores'
# Bytes: glibc keeps what is freed once as much was freed before, as by XLA in every training.
_FREED = 30 * 2**20

Arguments = tuple[object, ...]


def measured(quick: bool) -> Found:
    """Costs of an example in a batch, and of reading an image without decoding it."""
    # Short turns: noise lasts seconds.
    count, steps, repeats = (16, 1, 2) if quick else (512, 8, 25)
    figures: dict[str, Summary] = {}
    ratios: dict[str, Summary] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = write_photographs(Path(folder) / 'images', count, *_SIDES, images_per_case=2)
        paths = {'files': table, 'records': Path(folder) / 'records'}
        prepare.run([f'--manifest={table}', f'--out={paths["records"]}', '--workers=1'])
        for name, pairing in _PAIRS.items():
            ways: dict[str, Arguments] = {'bare': ('bare', pairing, table, 'one', steps)}
            for way in _SOURCES:
                ways[way] = ('batches', pairing, paths[way], 'one', steps)
            ways[f'records{_ALL_CORES}'] = ('batches', pairing, paths['records'], 'all', steps)
            costs = _by_turns(ways, repeats)
            figures |= milliseconds({f'{name}/{way}': each for way, each in costs.items()})
            ratios |= {
                f'{name}/{way}_over_bare': ratio(costs[way], costs['bare']) for way in _SOURCES
            }
            one, all_cores = (costs[f'records{where}'] for where in ('', _ALL_CORES))
            ratios[f'{name}/speed_of_all_cores'] = ratio(one, all_cores, 'wall')
        reads: dict[str, Arguments] = {
            f'reading/{way}': ('reading', 'case', paths[way], 'one', steps) for way in _SOURCES
        }
        figures |= milliseconds(_by_turns(reads, repeats))
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


def _by_turns(ways: Mapping[str, Arguments], repeats: int) -> dict[str, list[Cost]]:
    """Of processes with these arguments."""
    with contextlib.ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(__name__, *arguments))
            for name, arguments in ways.items()
        }
        return alternately(children, repeats)


def main(way: str, pairing: str, path: str, cores: str, steps: str) -> None:
    def prepared() -> tuple[Way, Mapping[str, object]]:
        if cores == 'one':
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        np.ones(_FREED, np.uint8)  # and freed at once
        table = Path(path).is_file()
        images = open_images(pairing, _BATCH, **{'manifest' if table else 'records': path})
        return {'bare': _bare, 'batches': _batches, 'reading': _reading}[way](
            images, int(steps)
        ), {}

    serve(prepared)


def _bare(images: Images, steps: int) -> Way:
    data, plans = images.encoded(), map(images.plan, itertools.count())

    def way() -> Cost:
        turn = list(itertools.islice(plans, steps))  # which is not counted
        return here(lambda: sum(crop_views(images, data, plan) for plan in turn))()

    return way


def _batches(images: Images, steps: int) -> Way:
    """Each turn takes so many batches more, and ends when as many are under way as before."""
    endless, raised = range(np.iinfo(np.int64).max), []
    settings = {'size': SIZE, 'crop': CROP, 'raised': raised}
    dataset = training_batches(images.table, images.sampler, endless, slice(None), **settings)
    batches: Iterator[np.ndarray] = (batch['views'] for batch in arrays_of(dataset, raised))

    def turn() -> int:
        examples = sum(map(len, itertools.islice(batches, steps)))
        _wait_until_idle()
        return examples

    return here(turn)


def _wait_until_idle() -> None:
    """Until no thread of this process computes."""
    before = -1.0
    while time.process_time() - before > 1e-3:
        before = time.process_time()
        time.sleep(0.01)


def _reading(images: Images, steps: int) -> Way:
    order = np.random.default_rng(0).permutation(images.rows)
    return here(lambda: sum(len(encoded(images.table, row)) for row in order[:, None]))


if __name__ == '__main__':
    main(*sys.argv[1:])
