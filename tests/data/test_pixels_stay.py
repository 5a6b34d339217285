"""Views are bit for bit those of the thread pool that tf.data took the place of (2862bbf).

The sums hold for the OpenCV that they were made with: another one may round otherwise.
"""

import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from big_ssl import prepare
from big_ssl.augment.crops import Crop
from big_ssl.data import records, windows
from big_ssl.data.cases import units_of_cases, units_of_images
from big_ssl.data.images import read_headers
from big_ssl.data.sampler import Sampler
from tests.helpers import host_views, manifest_of, smooth

MADE_WITH = '5.0.0'
SUMS = {
    'simclr': [1307723707, 1382084469, 3234511510],
    'micle': [836070444, 2175217184, 1519441395],
    'three views': [2814817770, 2629437067, 2365746369],
    'grey': [2725755256, 1395180095, 646459807],
    '16 bits': [3596903886, 2052165011, 3205241186],
    'turned': [952997151, 1263084401, 3805974386],
    'records': [836070444, 2175217184, 1519441395],
}

pytestmark = pytest.mark.skipif(
    not cv2.__version__.startswith(MADE_WITH), reason=f'the sums are of OpenCV {MADE_WITH}'
)


def colour(folder):
    """Nine JPEGs and PNGs of three cases, some large enough to be decoded at reduced size."""
    rows = []
    for i in range(9):
        pixels = smooth(60 + 40 * i, 90 + 25 * i, seed=i)
        name = f'{i}.{"jpg" if i % 3 else "png"}'
        _, data = cv2.imencode(f'.{name[2:]}', pixels[..., ::-1])
        (folder / name).write_bytes(data.tobytes())
        rows.append((name, f'c{i // 3}', f'p{i // 3}', '', 'train'))
    return manifest_of(folder, rows)


def grey(folder):
    manifest = colour(folder)
    for path in folder.glob('?.*'):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), image)
    return manifest


def deep(folder):
    for name, seed in (('a', 1), ('b', 2)):
        values = np.random.default_rng(seed).integers(0, 6000, (70, 90)).astype(np.uint16)
        Image.fromarray(values).save(folder / f'{name}.png')
    return manifest_of(folder, [(f'{name}.png', 'c', '', '', 'train') for name in 'ab'])


def turned(folder):
    """Orientations 2 to 8 before the pixels of a JPEG."""
    rows = []
    for turn in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        _, data = cv2.imencode('.jpg', smooth(150, 220, seed=turn))
        segment = b'Exif\0\0' + exif.tobytes()[6:]
        head = b'\xff\xd8\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment
        (folder / f'{turn}.jpg').write_bytes(head + data.tobytes()[2:])
        rows.append((f'{turn}.jpg', f'c{turn // 3}', '', '', 'train'))
    return manifest_of(folder, rows)


def recorded(folder):
    table = colour(folder).path
    prepare.run([f'--manifest={table}', f'--out={folder / "records"}', '--workers=1'])
    return records.open_records(str(folder / 'records'))


KINDS = {
    'simclr': (colour, units_of_images, 2, 0),
    'micle': (colour, units_of_cases, 2, 0),
    'three views': (colour, units_of_cases, 3, 0),
    'grey': (grey, units_of_images, 2, 1),
    '16 bits': (deep, units_of_cases, 2, 3),
    'turned': (turned, units_of_cases, 2, 0),
    'records': (recorded, units_of_cases, 2, 0),
}


@pytest.mark.parametrize('kind', KINDS)
def test_views_are_those_of_before(tmp_path, kind):
    make, units, views, channels = KINDS[kind]
    manifest = make(tmp_path)
    rows = np.arange(len(manifest))
    table = read_headers(manifest, rows, channels, windows.parse('300,5000', 'window'))
    sampler = Sampler(units(manifest, rows), seed=3, batch_size=6, views=views)
    found = host_views(table, sampler, range(3), slice(None), size=24, crop=Crop())
    assert [zlib.crc32(np.ascontiguousarray(batch)) for batch in found] == SUMS[kind]
