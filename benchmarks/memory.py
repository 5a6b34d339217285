"""What a training run holds in memory of a table or a record set, and what opening it takes.

  python -m benchmarks.memory [--cases=1000000] [--images=1]

Tables of so many cases with so many images each are written to a temporary folder, and each is
opened by a fresh process, up to the first batch of indices (no image is read or needed). Held is
its resident memory then, beyond what it had after its imports. Linux only.
"""

import argparse
import csv
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from benchmarks.results import Found, Summary, Target
from benchmarks.timing import summary
from big_ssl import config as config_lib
from big_ssl.data import datasets, records
from big_ssl.data.cases import units_of_cases
from big_ssl.data.image_files import JPEG
from big_ssl.data.images import ImageTable, read_headers
from big_ssl.data.manifest import COLUMNS, Manifest
from big_ssl.data.sampler import Sampler

_ROOT = Path(__file__).parent.parent
_MEASURE = """
import json, sys
from benchmarks import memory
print(json.dumps(memory.held(sys.argv[1])))
"""
_LABELS = ('nevus', 'melanoma', 'basal cell carcinoma', 'actinic keratosis', 'benign keratosis',
           'dermatofibroma', 'vascular lesion', '')  # fmt: skip
_FURTHER = ('age', 'sex')


def measure(cases: int, images: int = 1) -> dict[str, float]:
    """Opens a table and a record set of so many cases, each in a process of its own.

    Returns:
      `memory/WAY/…` for the ways `table` and `records`: `bytes_per_case`, `peak_bytes_per_case`,
      and to open the manifest and to be ready for the first batch `open_seconds`, `seconds`,
      `cpu_seconds`.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix='big_ssl-memory-') as folder:
        ways = {'table': Path(folder) / 'table.csv', 'records': Path(folder) / 'records'}
        write_table(ways['table'], cases, images)
        write_records(ways['records'], cases, images)
        for way, path in ways.items():
            command = [sys.executable, '-c', _MEASURE, str(path)]
            ended = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
            for name, value in json.loads(ended.stdout).items():
                per_case = name.endswith('bytes')
                key = f'memory/{way}/{name}' + ('_per_case' if per_case else '')
                found[key] = value / cases if per_case else value
    return found


def measured(quick: bool) -> Found:
    """`measure` several times, as a part of `python -m benchmarks`."""
    cases, repeats = (2000, 1) if quick else (1_000_000, 2)
    figures: dict[str, Summary] = {}
    for name, images in {'one_image': 1, 'two_images': 2}.items():
        rounds = [measure(cases, images) for _ in range(repeats)]
        for key in rounds[0]:
            if not key.endswith('open_seconds'):
                figures[f'{name}/{_shown(key)}'] = summary([each[key] for each in rounds])
    held = [name for name in figures if name.endswith('/bytes_per_case')]
    return Found(
        f'{cases:,} cases of one image and of two, opened up to the first batch of indices',
        figures,
        () if quick else [Target(name, '<=', 200) for name in held],
        ('bytes: resident beyond what the process had after its imports',),
    )


def _shown(name: str) -> str:
    short = name.removeprefix('memory/')
    return short.replace('cpu_seconds', 'cpu_s').replace('seconds', 'wall_s')


def held(path: str) -> dict[str, float]:
    """Opens a table or a record set in this process as a run does, up to its first batch."""
    config = _config(path)  # imports the method, and JAX
    before = resident()
    wall, cpu = time.perf_counter(), time.process_time()
    manifest = datasets.open_manifest(config)
    opened = time.perf_counter() - wall
    rows = manifest.rows(('train',))
    table = _headers(manifest) if manifest.store is None else read_headers(manifest, rows, 0)
    sampler = Sampler(units_of_cases(manifest, rows), seed=0, batch_size=64, views=2)
    batch, fingerprint = sampler.batch(0), manifest.fingerprint()
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    after = resident()
    assert len(table.manifest) and len(batch.images) and fingerprint  # all are held until here
    return {
        'bytes': after - before,
        'peak_bytes': peak() - before,
        'open_seconds': opened,
        'seconds': seconds,
        'cpu_seconds': cpu_seconds,
    }


def write_table(path: Path, cases: int, images: int) -> None:
    """A CSV as a clinic has it; its images are not there."""
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, *_FURTHER))
        writer.writerows(_rows(cases, images))


def write_records(folder: Path, cases: int, images: int) -> None:
    """The index of a record set as `big_ssl.prepare` writes it; its shards are not there."""
    index = pd.DataFrame(
        _rows(cases, images),
        columns=[*COLUMNS, *(records.FURTHER + name for name in _FURTHER)],
    )
    row, random = np.arange(len(index)), np.random.default_rng(0)
    size = random.integers(20_000, 80_000, len(index))
    case, view = np.divmod(row, images)
    index[records.LISTED_IN] = [f'table.csv row {line}' for line in range(2, len(index) + 2)]
    facts = {
        'shard': case // 10_000, 'record': case % 10_000, 'offset': 200 + view * 50_000,
        'bytes': size, 'height': random.integers(400, 1200, len(index)),
        'width': random.integers(400, 1200, len(index)), 'format': JPEG, 'orientation': 1,
        'grey': False,
    }  # fmt: skip
    index = index.assign(**facts, **{records.HASH: [random.bytes(32) for _ in row]})
    folder.mkdir()
    index.to_parquet(folder / records.INDEX, index=False)
    shards = [f'cases-train.array_record-{i:05d}' for i in range(1 + case[-1] // 10_000)]
    about = {'format': records.FORMAT, 'shards': shards, 'images': len(index), 'cases': cases}
    (folder / records.ABOUT).write_text(json.dumps(about))


def _rows(cases: int, images: int) -> Iterator[tuple[str, ...]]:
    """Two cases a patient, patients in no order, four fifths of them for training."""
    patients = np.random.default_rng(0).permutation(-(-cases // 2)).tolist()
    for case in range(cases):
        patient = patients[case // 2]
        split = ('val', 'test')[patient % 2] if patient % 10 < 2 else 'train'
        ids = f'L{case:07d}', f'P{patient:07d}'
        row = (*ids, _LABELS[case % len(_LABELS)], split, str(18 + patient % 70), 'fm'[patient % 2])
        folder = f'images/site_{patient % 12:02d}/patient_{patient:07d}'
        for view in range(images):
            yield f'{folder}/lesion_{case:07d}_{view}.jpg', *row


def _config(path: str) -> ConfigDict:
    config = config_lib.defaults()
    if records.is_record_set(path):
        config.dataset.name, config.dataset.data_dir = 'records', path
    else:
        config.dataset.manifest = path
    return config_lib.settle(config)


def _headers(manifest: Manifest) -> ImageTable:
    """As `read_headers` makes it of files, which are not there."""
    count = len(manifest)
    sizes = np.full((count, 2), 600, np.int32)
    return ImageTable(manifest, sizes, np.zeros(count, np.uint8), np.ones(count, np.uint8), 3)


def resident() -> int:
    """Bytes of this process in memory, after what is free was given back."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), 'malloc_trim', None):
        trim(0)
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def peak() -> int:
    """VmHWM: getrusage's peak is at least that of the process which started this one."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))


def forget_peak() -> int:
    """Begins `peak` anew; returns the bytes that this process has in memory now."""
    size = resident()
    Path('/proc/self/clear_refs').write_text('5')
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', type=int, default=1_000_000)
    parser.add_argument('--images', type=int, default=1, help='of each case')
    flags = parser.parse_args()
    for name, value in measure(flags.cases, flags.images).items():
        print(f'{name:40} {value:10,.1f}')


if __name__ == '__main__':
    main()
