"""Images a CPU second: encoded images and training batches, from files and from records.

  python benchmarks/reading.py --manifest=FILE.csv --records=DIR [--split=train] [--size=224]

DIR is what `python -m big_ssl.prepare --manifest=FILE.csv --out=DIR` made. Both ways take turns;
medians, smallest and largest of `--repeats` runs. CPU seconds are those of all threads.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from big_ssl import config as config_lib
from big_ssl.data import datasets
from big_ssl.data.cases import units_of_cases
from big_ssl.data.images import ImageTable
from big_ssl.data.pipeline import host_batches
from big_ssl.data.sampler import Sampler

_BATCH = 64


def opened(split: str, **dataset: str) -> tuple[ImageTable, np.ndarray]:
    """The images of a split, and their rows."""
    config = config_lib.defaults()
    for key, value in dataset.items():
        config.dataset[key] = value
    config = config_lib.settle(config)
    manifest = datasets.open_manifest(config)
    rows = manifest.rows((split,))
    return datasets.open_images(config, manifest, rows), rows


def encoded(table: ImageTable, rows: np.ndarray) -> int:
    """Reads every image once, in random order, and decodes none."""
    order = np.random.default_rng(0).permutation(rows)
    if (store := table.manifest.store) is None:
        return sum(1 for row in order if Path(table.manifest.image_path[row]).read_bytes())
    batches = (order[start : start + _BATCH] for start in range(0, len(order), _BATCH))
    return sum(len(store.read(batch)) for batch in batches)


def batches(table: ImageTable, rows: np.ndarray, size: int, steps: int = 30) -> int:
    """Training batches of two views of different images of a case."""
    sampler = Sampler(units_of_cases(table.manifest, rows), seed=0, batch_size=_BATCH, views=2)
    views = host_batches(table, sampler, range(steps), slice(None), size=size,
                         area=(0.08, 1.0), aspect=(0.75, 4 / 3))  # fmt: skip
    return sum(len(batch) * 2 for batch in views)


def rate(
    work: Callable[[ImageTable, np.ndarray], int], table: ImageTable, rows: np.ndarray
) -> tuple[float, float]:
    """Images a CPU second, and a second."""
    cpu, wall = time.process_time(), time.perf_counter()
    images = work(table, rows)
    return images / (time.process_time() - cpu), images / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--manifest', required=True)
    parser.add_argument('--records', required=True)
    parser.add_argument('--split', default='train')
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--repeats', type=int, default=5)
    flags = parser.parse_args()
    ways = {
        'files': opened(flags.split, manifest=flags.manifest),
        'records': opened(flags.split, name='records', data_dir=flags.records),
    }
    works = {
        'encoded images': encoded,
        'training batches': functools.partial(batches, size=flags.size),
    }
    for what, work in works.items():
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for repeat in range(flags.repeats + 1):
            for way, (table, rows) in ways.items():
                measured = rate(work, table, rows)
                if repeat:  # the first warms up
                    found[way].append(measured)
        for way, some in found.items():
            cpu, wall = (sorted(each) for each in zip(*some))
            print(
                f'{what} from {way}: {statistics.median(cpu):,.0f} a CPU second '
                f'({cpu[0]:,.0f} to {cpu[-1]:,.0f}), {statistics.median(wall):,.0f} a second'
            )


if __name__ == '__main__':
    main()
