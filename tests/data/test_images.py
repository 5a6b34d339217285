import gc
import warnings

import numpy as np
import pytest
from PIL import Image

from big_ssl.data.image_files import JPEG, PNG, PNG16
from big_ssl.data.images import (
    ImageTable,
    decode,
    evaluation_image,
    in_parallel,
    read_headers,
)
from big_ssl.data.windows import Window, parse
from big_ssl.errors import InputError
from tests.helpers import manifest_of, save, sixteen_bit_rgb_png, smooth


def table(folder, *names):
    """The images beside two rows that are fine."""
    save(folder / 'fine.png', smooth(20, 30))
    save(folder / 'fine.jpg', smooth(30, 20))
    rows = [(name, '', '', '', 'train') for name in ('fine.png', *names, 'fine.jpg')]
    return manifest_of(folder, rows)


@pytest.mark.parametrize(('shapes', 'channels'), [(((5, 6), (7, 8)), 1), (((5, 6), (7, 8, 3)), 3)])
def test_grey_stays_grey_where_all_images_are(tmp_path, shapes, channels):
    for i, shape in enumerate(shapes):
        save(tmp_path / f'{i}.png', np.full(shape, 40 + i, np.uint8))
    save(tmp_path / 'other.jpg', smooth(9, 9))
    rows = [(name, '', '', '', 'train') for name in ('0.png', 'other.jpg', '1.png')]
    found = read_headers(manifest_of(tmp_path, rows), np.array([0, 2]), 0)
    assert found.channels == channels
    assert decode(found, 2).shape == (7, 8, channels) and decode(found, 2)[0, 0, 0] == 41


def unread(manifest, channels=3, window=None):
    """The table before any header is read, which decoding does not need."""
    n = len(manifest)
    zeros, ones = np.zeros(n, np.uint8), np.ones(n, np.uint8)
    return ImageTable(manifest, np.zeros((n, 2), np.int64), zeros, ones, channels, window)


def refused(manifest, name, call=None):
    """The message of reading the second row; it names file and row."""
    with pytest.raises(InputError) as caught:
        (call or (lambda: read_headers(manifest, np.arange(len(manifest)), 3)))()
    message = str(caught.value)
    assert f'table.csv row 3: {manifest.image_path[1]}: ' in message and '\n' not in message
    assert manifest.image_path[1].endswith(name)
    return message.rsplit(': ', 1)[-1]


def test_headers(tmp_path):
    save(tmp_path / 'grey.png', smooth(7, 9)[..., 0])
    save(tmp_path / 'not asked for.png', smooth(5, 5))
    manifest = table(tmp_path, 'grey.png', 'not asked for.png', 'missing.png')
    images = read_headers(manifest, np.array([4, 0, 1]), 3)
    assert images.sizes.tolist() == [[20, 30], [7, 9], [0, 0], [0, 0], [30, 20]]
    assert images.formats.tolist() == [PNG, PNG, 0, 0, JPEG]
    assert images.channels == 3 and images.manifest is manifest


def test_the_content_decides_and_not_the_name(tmp_path):
    save(tmp_path / 'really a.png', smooth(7, 9), format='JPEG')
    save(tmp_path / 'really b.jpg', smooth(7, 9), format='PNG')
    images = read_headers(table(tmp_path, 'really a.png', 'really b.jpg'), np.arange(4), 3)
    assert images.formats.tolist() == [PNG, JPEG, PNG, JPEG]


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'no such file'),
        (b'', 'not a JPEG or PNG image'),
        (b'image_path,label\n', 'not a JPEG or PNG image'),
        (b'\x89PNG\r\n\x1a\n', 'not a JPEG or PNG image'),
        (b'\xff\xd8\xff\xe0\x00\x10JFIF', 'not a JPEG or PNG image'),
        (sixteen_bit_rgb_png(np.full((4, 5, 3), 40_000)), '16 bits a channel in colour'),
    ],
)  # fmt: skip
def test_refused_files(tmp_path, content, reason):
    if content is not None:
        (tmp_path / 'bad.jpg').write_bytes(content)
    assert refused(table(tmp_path, 'bad.jpg'), 'bad.jpg').startswith(reason)


def test_a_phone_jpeg_with_a_preview_is_its_first_picture(tmp_path):
    first, preview = (Image.fromarray(smooth(16, 20, seed=i)) for i in range(2))
    first.save(tmp_path / 'a.jpg', format='MPO', save_all=True, append_images=[preview])
    first.save(tmp_path / 'plain.jpg', format='JPEG')
    manifest = table(tmp_path, 'a.jpg', 'plain.jpg')
    both = read_headers(manifest, np.array([1, 2]), 3)
    assert (both.formats[1:3] == JPEG).all() and both.sizes[1].tolist() == [16, 20]
    np.testing.assert_array_equal(decode(unread(manifest), 1), decode(unread(manifest), 2))


def test_refused_folder(tmp_path):
    (tmp_path / 'bad.jpg').mkdir()
    assert 'irectory' in refused(table(tmp_path, 'bad.jpg'), 'bad.jpg')


@pytest.mark.parametrize(
    ('name', 'mode', 'options', 'reason'),
    [
        ('a.jpg', 'CMYK', {}, 'CMYK pixels; convert it to grey or RGB'),
        ('a.png', 'RGB', {'format': 'GIF'}, 'not a JPEG or PNG image'),
        ('a.jpg', 'RGB', {'format': 'WEBP'}, 'not a JPEG or PNG image'),
        ('a.jpg', 'RGB', {'format': 'BMP'}, 'not a JPEG or PNG image'),
        ('a.jpg', 'RGB', {'format': 'TIFF'}, 'not a JPEG or PNG image'),
        ('a.png', 'RGB', {'save_all': True, 'append_images': 2}, '3 frames; save it as one still'),
    ],
)  # fmt: skip
def test_refused_images(tmp_path, name, mode, options, reason):
    image = Image.fromarray(smooth(16, 20)).convert(mode)
    frames = options.get('append_images', 0)
    if frames:
        more = [Image.fromarray(smooth(16, 20, seed=i + 1)) for i in range(frames)]
        options = options | {'append_images': more}
    image.save(tmp_path / name, **options)
    manifest = table(tmp_path, name)
    assert refused(manifest, name).startswith(reason)
    refused(manifest, name, lambda: decode(unread(manifest), 1))
    refused(manifest, name, lambda: evaluation_image(unread(manifest), 1, size=8, proportion=0.875))


def test_refused_sizes(tmp_path, monkeypatch):
    save(tmp_path / 'large.png', smooth(40, 50))
    manifest = table(tmp_path, 'large.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40 * 50 // 2 - 1)
    assert refused(manifest, 'large.png') == 'more pixels than Pillow opens'
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 40 * 50 // 2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert decode(unread(manifest), 1).shape == (40, 50, 3)


@pytest.mark.parametrize(('name', 'options'), [('cut.jpg', {'quality': 95}), ('cut.png', {})])
def test_truncated_in_the_middle(tmp_path, name, options):
    save(tmp_path / name, smooth(60, 80, noise=20), **options)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    manifest = table(tmp_path, name)
    assert read_headers(manifest, np.arange(3), 3).sizes[1].tolist() == [60, 80]
    for call in (
        lambda: decode(unread(manifest), 1),
        lambda: decode(unread(manifest, 1), 1),
        lambda: evaluation_image(unread(manifest), 1, size=8, proportion=0.875),
        lambda: list(in_parallel(lambda row: decode(unread(manifest), row), [0, 1, 2])),
    ):
        assert 'truncated' in refused(manifest, name, call)


def modes(pixels):
    """The same picture in each accepted mode, and what it is as RGB."""
    rgb = Image.fromarray(pixels)
    grey = rgb.convert('L')
    palette = rgb.quantize(16)
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(255 - pixels[..., 0]))
    grey_alpha = grey.copy()
    grey_alpha.putalpha(Image.fromarray(255 - pixels[..., 0]))
    return {
        'RGB': (rgb, pixels),
        'L': (grey, np.repeat(np.asarray(grey)[..., None], 3, axis=-1)),
        'LA': (grey_alpha, np.repeat(np.asarray(grey)[..., None], 3, axis=-1)),
        'RGBA': (alpha, pixels),  # transparency is ignored, nothing is blended
        'P': (palette, np.reshape(palette.getpalette(), (-1, 3))[np.asarray(palette)]),
        '1': (
            Image.fromarray(pixels[..., 0] > 128),
            np.repeat((pixels[..., :1] > 128) * 255, 3, -1),
        ),
    }


@pytest.mark.parametrize('mode', ['RGB', 'L', 'LA', 'RGBA', 'P', '1'])
def test_accepted_modes(tmp_path, mode):
    image, expected = modes(smooth(20, 31))[mode]
    assert image.mode == mode
    image.save(tmp_path / 'a.png')
    manifest = table(tmp_path, 'a.png')
    pixels = decode(unread(manifest), 1)
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, expected)
    grey = decode(unread(manifest, 1), 1)
    luma = expected @ [0.299, 0.587, 0.114]
    assert grey.shape == (20, 31, 1) and abs(grey[..., 0] - luma).max() <= 1


def test_two_and_four_bit_grey(tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(2, 8)
    for bits, scale in ((2, 85), (4, 17)):
        Image.fromarray(pixels % 2**bits * scale).convert('L').quantize(2**bits).save(
            tmp_path / f'{bits}.png', bits=bits
        )
        manifest = table(tmp_path, f'{bits}.png')
        assert np.array_equal(decode(unread(manifest, 1), 1)[..., 0], pixels % 2**bits * scale)


def triangle_resize(image, size):
    """Separable triangle filter, widened when shrinking, cut at the border; float64 [h, w, c]."""
    for axis in (0, 1):
        length = image.shape[axis]
        scale = length / size
        centre = (np.arange(size)[:, None] + 0.5) * scale
        distance = abs(np.arange(length) + 0.5 - centre) / max(scale, 1)
        weight = np.maximum(1 - distance, 0)
        weight /= weight.sum(axis=1, keepdims=True)
        image = np.moveaxis(np.tensordot(weight, image, axes=(1, axis)), 0, axis)
    return image


def centre(pixels, proportion):
    """The rule: the centred square of that share of the shorter side."""
    height, width = pixels.shape[:2]
    side = round(proportion * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return top, left, side


@pytest.mark.parametrize('shape', [(120, 90), (61, 200), (40, 40), (9, 300)])
@pytest.mark.parametrize(('size', 'proportion'), [(32, 0.875), (24, 1.0), (50, 0.5)])
def test_evaluation_image_is_centre_crop_and_triangle_filter(tmp_path, shape, size, proportion):
    pixels = smooth(*shape, noise=25)
    save(tmp_path / 'a.png', pixels)
    found = evaluation_image(unread(table(tmp_path, 'a.png')), 1, size=size, proportion=proportion)
    top, left, side = centre(pixels, proportion)
    expected = triangle_resize(pixels[top : top + side, left : left + side].astype(float), size)
    assert found.shape == (size, size, 3) and found.dtype == np.uint8
    assert abs(found - expected).max() < 1.001  # Pillow rounds to 8 bits after each axis


def test_evaluation_image_in_grey(tmp_path):
    pixels = smooth(50, 60)
    save(tmp_path / 'a.png', pixels)
    found = evaluation_image(unread(table(tmp_path, 'a.png'), 1), 1, size=16, proportion=0.875)
    top, left, side = centre(pixels, 0.875)
    luma = (pixels @ [0.299, 0.587, 0.114])[top : top + side, left : left + side, None]
    assert found.shape == (16, 16, 1)
    assert abs(found - triangle_resize(luma, 16)).max() <= 1.5


@pytest.mark.parametrize('subsampling', [0, 2])
def test_evaluation_image_is_what_tensorflow_computes(tmp_path, subsampling):
    """A photograph's noise and chroma subsampling; two levels are the two roundings to 8 bits."""
    tf = pytest.importorskip('tensorflow')
    save(tmp_path / 'a.jpg', smooth(230, 310, noise=20), quality=90, subsampling=subsampling)
    found = evaluation_image(unread(table(tmp_path, 'a.jpg')), 1, size=64, proportion=0.875)
    image = tf.io.decode_jpeg((tmp_path / 'a.jpg').read_bytes(), 3, dct_method='INTEGER_ACCURATE')
    top, left, side = centre(image, 0.875)
    crop = tf.slice(image, [top, left, 0], [side, side, -1])
    expected = tf.image.resize(crop, [64, 64], antialias=True).numpy()
    assert abs(found - expected).max() <= 2
    assert abs(found - expected).mean() < 0.5


def test_in_parallel_keeps_the_order():
    assert list(in_parallel(lambda row: row * 2, range(200))) == list(range(0, 400, 2))


@pytest.mark.filterwarnings('error')
def test_files_are_closed(tmp_path):
    save(tmp_path / 'grey.jpg', smooth(8, 8)[..., 0])
    manifest = table(tmp_path, 'grey.jpg')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        read_headers(manifest, np.arange(3), 3)
        for row in range(3):
            decode(unread(manifest), row)
            evaluation_image(unread(manifest), row, size=8, proportion=1.0)
        gc.collect()
    assert not [str(warning.message) for warning in caught]


ORIENTATIONS = {  # EXIF's number: the upright picture from the stored one (Exif 3.0, 4.6.5.1.6)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize('turn', ORIENTATIONS)
@pytest.mark.parametrize('name', ['a.jpg', 'a.png'])
def test_exif_turns_images_upright(tmp_path, turn, name):
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = smooth(21, 34)
    save(tmp_path / name, pixels, exif=exif)
    save(tmp_path / f'plain {name}', pixels)
    manifest = table(tmp_path, name, f'plain {name}')
    images = read_headers(manifest, np.arange(4), 3)
    expected = ORIENTATIONS[turn](decode(images, 2))
    assert images.orientations.tolist() == [1, turn, 1, 1]
    assert images.sizes[1].tolist() == list(expected.shape[:2])
    np.testing.assert_array_equal(decode(images, 1), expected)
    found = evaluation_image(images, 1, size=16, proportion=0.8)
    top, left, side = centre(expected, 0.8)
    crop = expected[top : top + side, left : left + side].astype(float)
    assert abs(found - triangle_resize(crop, 16)).max() < 1.001


def test_exif_that_is_damaged_says_nothing(tmp_path):
    Image.fromarray(smooth(9, 12)).save(tmp_path / 'a.jpg', exif=b'Exif\0\0II*\0\xff\xff\xff\x7f')
    images = read_headers(table(tmp_path, 'a.jpg'), np.arange(3), 3)
    assert images.orientations[1] == 1 and decode(images, 1).shape == (9, 12, 3)


@pytest.mark.parametrize(
    ('window', 'expected'),
    [
        ('full', [0, 0, 4, 16, 255]),
        ('1000,4095', [0, 0, 2, 255, 255]),
        ('minmax', [0, 0, 4, 16, 255]),
    ],
)
def test_sixteen_bit_grey_keeps_its_range_until_windowing(tmp_path, window, expected):
    values = np.array([[0, 100, 1023, 4095, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / 'deep.png')
    images = read_headers(table(tmp_path, 'deep.png'), np.arange(3), 1, parse(window, 'x'))
    assert images.formats.tolist() == [PNG, PNG16, JPEG]
    assert decode(images, 1)[0, :, 0].tolist() == expected
    three = unread(images.manifest, 3, images.window)
    assert decode(three, 1)[0].tolist() == [[value] * 3 for value in expected]


def test_sixteen_bit_without_a_window_is_refused(tmp_path):
    Image.fromarray(np.full((4, 5), 700, np.uint16)).save(tmp_path / 'deep.png')
    manifest = table(tmp_path, 'deep.png')
    assert 'values that become black and white' in refused(manifest, 'deep.png')
    refused(manifest, 'deep.png', lambda: decode(unread(manifest), 1))


def test_minmax_of_one_value_is_black():
    assert Window('minmax').levels(np.full((2, 3), 9, np.uint16)).max() == 0


def test_in_parallel_is_not_far_ahead():
    """What is loaded and not yet asked for lies in memory."""
    loaded = []
    results = in_parallel(loaded.append, range(10_000))
    for _ in range(3):
        next(results)
    results.close()
    assert 3 <= len(loaded) <= 100
