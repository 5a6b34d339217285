import io

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import textured
from big_ssl.data import views
from big_ssl.data.image_files import JPEG, PNG
from tests.helpers import smooth


def encoded(image, form='JPEG', **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def by_pillow(image, size):
    return np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR)).astype(float)


@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'LA', 'RGB', 'RGBA'])
@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_decodes_as_pillow(mode, form):
    if form == 'JPEG' and mode not in ('L', 'RGB'):
        pytest.skip('no such JPEG')
    image = Image.fromarray(textured(37, 51)).convert(mode)
    found = views.decode(encoded(image, form), JPEG if form == 'JPEG' else PNG, 3)
    expected = Image.open(io.BytesIO(encoded(image, form))).convert('RGB')
    assert np.array_equal(found, np.asarray(expected))


@pytest.mark.parametrize('options', [{'progressive': True}, {'subsampling': 0}, {'quality': 30}])
def test_decodes_every_kind_of_jpeg_as_pillow(options):
    data = encoded(Image.fromarray(textured(61, 83)), **options)
    assert np.array_equal(views.decode(data, JPEG, 3), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize('ratio', [2, 4, 8])
def test_jpegs_at_a_reduced_scale_are_pillows_drafts(ratio):
    data = encoded(Image.fromarray(textured(123, 170)))
    draft = Image.open(io.BytesIO(data))
    draft.draft('RGB', (170 // ratio, 123 // ratio))
    found = views.decode(data, JPEG, 3, ratio=ratio)
    assert found.shape[:2] == (-(-123 // ratio), -(-170 // ratio))
    assert np.array_equal(found, np.asarray(draft))


def noise(height, width):
    """Colours far apart in neighbouring pixels: many are out of range once a JPEG is decoded."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize('mode', ['1', 'L', 'LA'])
@pytest.mark.parametrize('form', ['JPEG', 'PNG'])
def test_one_channel_of_a_grey_image_is_pillows(mode, form):
    if form == 'JPEG' and mode != 'L':
        pytest.skip('no such JPEG')
    data = encoded(Image.fromarray(textured(37, 51)).convert(mode), form)
    found = views.decode(data, JPEG if form == 'JPEG' else PNG, 1)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert('L')))


@pytest.mark.parametrize('make', [smooth, textured, noise])
@pytest.mark.parametrize('options', [{'quality': 30}, {'quality': 95}, {'subsampling': 0}])
def test_one_channel_of_a_colour_jpeg_is_the_luma_that_it_stores(make, options):
    """As Pillow's draft. What Pillow makes of the colours differs where these were clipped."""
    data = encoded(Image.fromarray(make(120, 170)), **options)
    for ratio in (1, 2, 4, 8):
        draft = Image.open(io.BytesIO(data))
        draft.draft('L', (170 // ratio, 120 // ratio))
        assert np.array_equal(views.decode(data, JPEG, 1, ratio=ratio), np.asarray(draft))
    colours = Image.open(io.BytesIO(data))
    difference = views.decode(data, JPEG, 1).astype(int) - np.asarray(colours.convert('L'))
    clipped = np.isin(np.asarray(colours), (0, 255)).any(axis=-1)
    assert not difference[~clipped].any()
    assert abs(difference).max() <= 64
    if make is noise:
        assert abs(difference).max() >= 4


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P'])
def test_one_channel_of_a_colour_png_is_rounded_down(mode):
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, len(levels), 3)
    data = encoded(Image.fromarray(colours).convert(mode), 'PNG')
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('L')).astype(int)
    assert set(np.unique(views.decode(data, PNG, 1) - expected)) == {-1, 0}


@pytest.mark.parametrize('data', [b'', b'not an image', encoded(Image.new('RGB', (9, 9)))[:-40]])
def test_what_does_not_decode(data):
    with pytest.raises(ValueError, match='does not decode'):
        views.decode(data, JPEG, 3)


@pytest.mark.parametrize('size', [48, 90, 200])
@pytest.mark.parametrize('shape', [(200, 200), (230, 310), (480, 350), (1000, 700), (60, 900)])
def test_a_slope_stays_a_slope(shape, size):
    """The grid of centres: output i lies at (i + 1/2) height / size - 1/2, borders aside."""
    height, width = shape
    slope = np.linspace(10, 240, height)[:, None] * np.ones(width)
    expected = np.interp(
        (np.arange(size) + 0.5) * height / size - 0.5, np.arange(height), slope[:, 0]
    )
    inner = slice(2, -2)
    lost = 230 / height * max(height // size, 1)  # of the border, by means of whole pixels
    for image, take in ((slope, lambda x: x[:, size // 2]), (slope.T, lambda x: x[size // 2])):
        found = take(views.resize(np.rint(image).astype(np.uint8), size).astype(float))
        assert abs(found - expected)[inner].max() < 1 + lost / 2


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('reduction', [0.6, 1.0, 1.2, 1.5, 1.9, 2.4])
def test_close_to_pillow_on_textured_images(reduction, seed):
    side = round(224 * reduction)
    image = textured(side, side, seed)
    found = views.resize(image, 224)
    difference = abs(found - by_pillow(image, 224))
    if reduction <= 1:
        assert difference.max() <= 1
    else:
        assert difference.mean() < 2 and np.percentile(difference, 99) <= 8
        unsmoothed = cv2.resize(image, (224, 224))
        assert difference.mean() < abs(unsmoothed - by_pillow(image, 224)).mean()


@pytest.mark.parametrize(('reduction', 'kept'), [(1.6, 64), (2, 13), (2.5, 26), (3.5, 13), (9, 13)])
def test_what_is_too_fine_for_the_result_fades(reduction, kept):
    """Stripes of a pixel, with a deviation of 127.5; `kept` of it may be left as moire.

    A kernel of three cannot do more at 1.6, where Pillow's leaves 7, without blurring what is to
    stay.
    """
    side = round(100 * reduction)
    stripes = np.broadcast_to(255 * (np.arange(side) % 2), (side, side)).astype(np.uint8)
    for image in (stripes, stripes.T.copy()):
        left = views.resize(image, 100)[10:-10, 10:-10].astype(float)
        assert abs(left.mean() - 127.5) < 3
        assert left.std() < kept


def test_turned_views_and_grey_ones():
    image = textured(30, 30)[..., 0]
    out = np.empty((30, 30, 3), np.uint8)
    views.crop(image, np.array([0, 0, 30, 30]), 6, out)
    assert np.array_equal(out[..., 0], np.rot90(image, -1))
    assert np.array_equal(out[..., 0], out[..., 2])
