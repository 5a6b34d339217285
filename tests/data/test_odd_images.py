"""Every way of reading understands odd files alike, or refuses them alike."""

import importlib
import io
import json
import shutil
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from big_ssl.data import image_files, images, views, windows
from big_ssl.data.image_files import PNG16
from big_ssl.errors import InputError
from big_ssl.exports.papers import RECEIVERS
from big_ssl.preparation import pictures
from tests.data.odd_images import (
    BY_PILLOW,
    PIXELS,
    RAW_6,
    REFUSED,
    SHOWN,
    chunk,
    exif,
    png,
    xmp,
)
from tests.data.test_images import ORIENTATIONS
from tests.helpers import manifest_of

pytestmark = [
    pytest.mark.filterwarnings('ignore:Corrupt EXIF'),
    pytest.mark.filterwarnings('ignore:Palette images'),
]
SETTINGS = {'channels': 3, 'crop': 0.875, 'image_size': 16, 'window': 'full'}
FULL = windows.parse('full', 'window')


@pytest.fixture(scope='module')
def receiver():
    """predict.py as a module; the runtime beside it is not needed for pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(RECEIVERS))
        patch.setitem(sys.modules, 'runtime', types.ModuleType('runtime'))
        yield importlib.import_module('predict')
        sys.modules.pop('predict')


def written(folder, name, data):
    """A table of the one file."""
    (folder / name).write_bytes(data)
    return manifest_of(folder, [(name, '', '', '', 'train')])


def upright(odd):
    """What the file shows, as a person sees it; a JPEG's pixels are Pillow's, not yet turned."""
    stored = odd.stored
    if stored is None:
        stored = np.asarray(Image.open(io.BytesIO(odd.data)).convert('RGB'))
    return ORIENTATIONS[odd.turn](stored)


@pytest.mark.parametrize('name', SHOWN | BY_PILLOW)
def test_evaluated_as_shown_and_by_predict_bit_by_bit(tmp_path, name, receiver):
    odd = (SHOWN | BY_PILLOW)[name]
    manifest, expected = written(tmp_path, name, odd.data), upright(odd)
    for channels in (1, 3):
        table = images.read_headers(manifest, np.arange(1), channels, FULL)
        assert table.orientations[0] == odd.turn
        assert table.sizes[0].tolist() == list(expected.shape[:2])
        evaluated = images.evaluation_image(table, 0, size=16, proportion=0.875)
        found = receiver.pixels(tmp_path / name, SETTINGS | {'channels': channels})
        assert found.shape == (16, 16, 3) and found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.broadcast_to(evaluated, found.shape))
    np.testing.assert_array_equal(images.decode(table, 0), expected)


@pytest.mark.parametrize('name', SHOWN)
def test_trained_on_as_shown(tmp_path, name):
    odd = SHOWN[name]
    table = images.read_headers(written(tmp_path, name, odd.data), np.arange(1), 3, FULL)
    stored = views.decode(odd.data, table.formats[0], 3, window=FULL)
    if stored.ndim == 2:
        stored = np.repeat(stored[..., None], 3, axis=-1)
    found = ORIENTATIONS[int(table.orientations[0])](stored)
    np.testing.assert_array_equal(found, upright(odd))


@pytest.mark.parametrize('name', SHOWN)
def test_prepared_as_shown(name):
    expected = upright(SHOWN[name])
    stored = pictures.picture(SHOWN[name].data, 0, pictures.Reading())
    assert (stored.height, stored.width, stored.orientation) == (
        *expected.shape[:2],
        SHOWN[name].turn,
    )
    with image_files.open_image(io.BytesIO(stored.data)) as image:
        assert image_files.header(image).orientation == SHOWN[name].turn
        whole = image_files.upright(image, 'RGB')
    found = FULL.levels(np.asarray(whole)) if stored.format == PNG16 else np.asarray(whole)
    found = np.repeat(found[..., None], 3, axis=-1) if found.ndim == 2 else found
    np.testing.assert_array_equal(found, expected)


def test_undecoded_as_pillow_says_once_decoded(tmp_path):
    """Chunks drawn in any order before and behind the pixels."""
    rng = np.random.default_rng(0)
    some = [
        *(call(n) for call in (exif, xmp) for n in (0, 1, 3, 6, 8)),
        *(RAW_6, chunk(b'tEXt', b'Comment\0a'), chunk(b'eXIf', b''), exif(6, tag=0x0128)),
    ]
    turned = 0
    for _ in range(300):
        before, behind = (b''.join(rng.choice(some, rng.integers(4)).tolist()) for _ in range(2))
        data = png(before=before, behind=behind, pieces=int(rng.integers(1, 4)))
        with image_files.open_image(io.BytesIO(data)) as image:
            header = image_files.header(image)
            found = np.asarray(image_files.upright(image, 'RGB'))
        try:
            expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        except SyntaxError:  # of the empty EXIF
            expected = PIXELS
        turned += header.orientation != 1
        np.testing.assert_array_equal(ORIENTATIONS[header.orientation](PIXELS), expected)
        np.testing.assert_array_equal(found, expected)
    assert 100 < turned < 290


@pytest.mark.parametrize('name', REFUSED)
def test_refused_alike(tmp_path, name, receiver):
    manifest = written(tmp_path, name, REFUSED[name])

    def evaluated():
        table = images.read_headers(manifest, np.arange(1), 3, FULL)
        return images.evaluation_image(table, 0, size=16, proportion=0.875)

    def trained():
        table = images.read_headers(manifest, np.arange(1), 3, FULL)
        return views.decode(REFUSED[name], table.formats[0], 3, window=FULL)

    with pytest.raises(InputError, match=name):
        evaluated()
    with pytest.raises((InputError, ValueError)):
        trained()
    if name != 'a TIFF.png':  # which becomes a PNG
        with pytest.raises(ValueError):
            pictures.levels(pictures.picture(REFUSED[name], 0, pictures.Reading()))
    with pytest.raises(Exception):  # noqa: B017  # predict.py makes a line of all of them
        receiver.pixels(tmp_path / name, SETTINGS)


@pytest.fixture
def exported(tmp_path):
    """A folder with predict.py and a runtime that gives the mean of the pixels."""
    folder = tmp_path / 'out'
    folder.mkdir()
    shutil.copy(RECEIVERS / 'predict.py', folder)
    (folder / 'preprocessing.json').write_text(json.dumps(SETTINGS))
    labels = {'outputs': 'features', 'classes': [], 'several_at_once': False}
    (folder / 'labels.json').write_text(json.dumps(labels))
    program = 'def load(folder):\n    return lambda images: images.mean(axis=(1, 2))\n'
    (folder / 'runtime.py').write_text(program)
    return folder


def predict(exported, folder, out):
    command = [sys.executable, str(exported / 'predict.py'), str(folder), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_predict_scores_every_odd_file_without_a_word(tmp_path, exported):
    folder, out = tmp_path / 'images', tmp_path / 'scores.csv'
    folder.mkdir()
    for name, odd in (SHOWN | BY_PILLOW).items():
        (folder / name).write_bytes(odd.data)
    (folder / 'a folder.png').mkdir()
    done = predict(exported, folder, out)
    assert (done.returncode, done.stderr) == (0, '')
    assert pd.read_csv(out).image_path.tolist() == sorted(SHOWN | BY_PILLOW)


@pytest.mark.parametrize('name', ['CMYK.jpg', 'moving.png', 'cut.png', 'empty.jpg', 'a GIF.png'])
def test_predict_refuses_in_a_line(tmp_path, exported, name):
    folder, out = tmp_path / 'images', tmp_path / 'scores.csv'
    folder.mkdir()
    (folder / 'fine.png').write_bytes(SHOWN['plain.png'].data)
    (folder / name).write_bytes(REFUSED[name])
    done = predict(exported, folder, out)
    assert done.returncode == 2 and not out.exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error: {folder / name}: ') and len(line) > len(str(folder / name)) + 15


def test_predict_says_where_it_cannot_write(tmp_path, exported):
    folder, out = tmp_path / 'images', tmp_path / 'nowhere/scores.csv'
    folder.mkdir()
    (folder / 'fine.png').write_bytes(SHOWN['plain.png'].data)
    done = predict(exported, folder, out)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith('error: ') and str(out) in line
