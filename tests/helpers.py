"""Small tables and images for the tests."""

import csv
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from big_ssl.data import pipeline
from big_ssl.data.manifest import Manifest, read_manifest

HEADER = ('image_path', 'case_id', 'patient_id', 'label', 'split')
COLUMNS = {name: name for name in HEADER}


def unpack(archive: Path, folder: Path) -> None:
    """All files of a tar, in a folder."""
    safely = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}  # not in Python 3.11.2
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **safely)


def write_table(path: Path, rows, header=HEADER) -> str:
    """A CSV with a header; rows may be shorter than it."""
    with path.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def manifest_of(folder: Path, rows, header=HEADER) -> Manifest:
    return read_manifest(write_table(folder / 'table.csv', rows, header), columns=COLUMNS)


def smooth(height: int, width: int, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """uint8 [height, width, 3]: a few slow waves in each channel, and noise if asked."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / np.array([height, width])[:, None, None, None]
    frequency, phase = rng.uniform(-2, 2, (2, 3, 4)), rng.uniform(0, 2 * np.pi, (3, 4))
    waves = np.cos(
        2 * np.pi * (y[..., None] * frequency[0] + x[..., None] * frequency[1]) + phase
    ).sum(axis=-1)
    pixels = 128 + 30 * waves + noise * rng.standard_normal(waves.shape)
    return np.rint(pixels.clip(0, 255)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def sixteen_bit_rgb_png(pixels: np.ndarray) -> bytes:
    """The PNG of uint16 [h, w, 3], which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    scanlines = b''.join(b'\0' + line.astype('>u2').tobytes() for line in pixels)
    header = struct.pack('>IIBBBBB', width, height, 16, 2, 0, 0, 0)
    chunks = ((b'IHDR', header), (b'IDAT', zlib.compress(scanlines)), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
        for name, data in chunks
    )


def host_views(table, sampler, steps, part=slice(None), **settings):
    """The views of each step's batch, as the host makes them for training."""
    raised: list[Exception] = []
    batches = pipeline.training_batches(table, sampler, steps, part, raised=raised, **settings)
    return (batch['views'] for batch in pipeline.arrays_of(batches, raised))
