import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from big_ssl.data.image_files import JPEG, PNG, PNG16
from big_ssl.data.windows import Window
from big_ssl.preparation.pictures import Reading, frames, levels, picture
from tests.data.test_images import ORIENTATIONS, modes
from tests.helpers import sixteen_bit_rgb_png, smooth
from tests.preparation.test_metadata import (
    CHANGES,
    SECRET,
    XMP,
    changed,
    chunk,
    chunk_names,
    encode,
    exif,
    opened,
    tiff,
)

PLAIN, COLOUR = Reading(), smooth(21, 34, noise=9)
GREY = COLOUR[..., 0]
DEEP = np.random.default_rng(0).integers(0, 65536, (21, 34)).astype(np.uint16)


def pages():
    return {'save_all': True, 'append_images': [Image.fromarray(GREY).convert('RGB')] * 2}


def refused(data, reading=PLAIN):
    """The message, one short line."""
    with pytest.raises(ValueError) as caught:
        for frame in range(frames(data, reading)):
            levels(picture(data, frame, reading))
    message = str(caught.value)
    assert 0 < len(message) < 160 and '\n' not in message
    return message


def assert_is(found, mode, shape, kind, turn=1):
    """The facts that are stored are those of the encoded image."""
    image = opened(found.data)
    assert image.mode == mode and image.format == ('JPEG' if kind == JPEG else 'PNG')
    assert found.grey == (mode in ('1', 'L', 'LA', 'I;16'))
    assert (found.format, found.orientation) == (kind, turn)
    assert (found.height, found.width) == shape == levels(found).shape[:2]


@pytest.mark.parametrize('mode', modes(COLOUR))
@pytest.mark.parametrize('reading', [PLAIN, Reading(Window('full'), shorter_side=21)])
def test_an_eight_bit_png_keeps_its_compressed_pixels(mode, reading):
    image, rgb = modes(COLOUR)[mode]
    data = encode(image, 'PNG')
    found = picture(data, 0, reading)
    assert frames(data, reading) == 1
    assert_is(found, mode, (21, 34), PNG)
    assert np.array_equal(np.asarray(opened(found.data)), np.asarray(opened(data)))
    assert data[data.index(b'IDAT') : -12] in found.data
    expected = rgb[..., :1] if found.grey else rgb
    assert levels(found).dtype == np.uint8 and np.array_equal(levels(found), expected)


@pytest.mark.parametrize(('pixels', 'mode'), [(COLOUR, 'RGB'), (GREY, 'L')])
@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'comment': SECRET}])
def test_a_jpeg_keeps_its_compressed_pixels(pixels, mode, options):
    data = encode(pixels, **options)
    found = picture(data, 0, Reading(shorter_side=21))
    assert_is(found, mode, (21, 34), JPEG)
    assert data[data.index(b'\xff\xda') :] in found.data
    assert np.array_equal(np.squeeze(levels(found)), np.asarray(opened(data)))


def test_a_phone_jpeg_with_a_preview_is_its_first_picture():
    found = picture(encode(COLOUR, 'MPO', **pages()), 0, PLAIN)
    assert_is(found, 'RGB', (21, 34), JPEG)
    assert np.array_equal(levels(found), np.asarray(opened(encode(COLOUR))))


def test_a_sixteen_bit_png_keeps_its_range():
    found = picture(encode(DEEP, 'PNG'), 0, PLAIN)
    assert_is(found, 'I;16', (21, 34), PNG16)
    assert np.array_equal(np.asarray(opened(found.data)), DEEP)
    narrow = np.array([[1000, 1100, 1500, 2000]], np.uint16)  # levels from smallest to largest
    assert levels(picture(encode(narrow, 'PNG'), 0, PLAIN))[..., 0].tolist() == [[0, 26, 128, 255]]


@pytest.mark.parametrize('encoded', [lambda a: encode(a, 'PNG'), tiff])
@pytest.mark.parametrize(
    ('window', 'expected'),
    [
        (Window('values', 1000, 3000), [0, 0, 128, 255, 255]),
        (Window('full'), [0, 4, 8, 12, 255]),
        (Window('minmax'), [0, 4, 8, 12, 255]),
    ],
)
def test_a_window_makes_eight_bits_of_sixteen(encoded, window, expected):
    values = np.array([[0, 1000, 2000, 3000, 65535]], np.uint16)
    found = picture(encoded(values), 0, Reading(window=window))
    assert_is(found, 'L', (1, 5), PNG)
    assert levels(found)[..., 0].tolist() == [expected]


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize(('planar', 'pixels'), [(1, GREY), (1, DEEP), (1, COLOUR), (2, COLOUR)])
def test_a_tiff_becomes_a_png_of_its_values(order, packed, planar, pixels):
    found = picture(tiff(pixels, order, planar=planar, packed=packed), 0, PLAIN)
    deep = pixels.dtype == np.uint16
    mode = 'RGB' if pixels.ndim == 3 else 'I;16' if deep else 'L'
    assert_is(found, mode, (21, 34), PNG16 if deep else PNG)
    assert np.array_equal(np.asarray(opened(found.data)), pixels)


@pytest.mark.parametrize('pixels', [GREY, DEEP, COLOUR, GREY > 128])
@pytest.mark.parametrize('compression', ['tiff_lzw', 'tiff_adobe_deflate', 'packbits', None])
def test_a_compressed_tiff_becomes_a_png_of_its_values(pixels, compression):
    found = picture(encode(pixels, 'TIFF', compression=compression), 0, PLAIN)
    expected = pixels * np.uint8(255) if pixels.dtype == bool else pixels
    assert np.array_equal(np.asarray(opened(found.data)), expected)


@pytest.mark.parametrize('packed', [False, True])
@pytest.mark.parametrize(('order', 'pixels'), [('<', GREY), ('>', GREY), ('<', DEEP)])
def test_a_tiff_in_which_white_is_zero_is_turned_round(order, pixels, packed):
    found = picture(tiff(pixels, order, photometric=0, packed=packed), 0, PLAIN)
    white = np.iinfo(pixels.dtype).max
    assert np.array_equal(np.asarray(opened(found.data)), white - pixels)
    windowed = picture(tiff(pixels, photometric=0), 0, Reading(window=Window('minmax')))
    assert levels(windowed)[pixels == pixels.min()].min() == levels(windowed).max()


@pytest.mark.parametrize(
    ('data', 'reason'),
    [
        (b'', 'the file is empty (0 bytes)'),
        (b'image_path,label\n', 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR)[:30], 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR)[:-40], 'truncated: the end of the JPEG'),
        (encode(COLOUR, 'PNG')[:-40], 'truncated: the end of the PNG'),
        (tiff(GREY)[:-300], 'does not decode: '),
        (encode(COLOUR, 'GIF', **pages()), 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR, 'WEBP'), 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR, 'BMP'), 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR, 'PNG', **pages()), '3 frames; save it as one still image'),
        (encode(COLOUR, 'TIFF', **pages()), '3 frames; save it as one still image'),
        (encode(Image.fromarray(COLOUR).convert('CMYK')), 'CMYK pixels'),
        (encode(Image.fromarray(COLOUR).convert('CMYK'), 'TIFF'), 'CMYK pixels'),
        (sixteen_bit_rgb_png(np.full((4, 5, 3), 40_000)), '16 bits a channel in colour'),
        (tiff(np.dstack([DEEP] * 3)), '16 bits a channel in colour'),
        (tiff(np.dstack([DEEP] * 3), planar=2), '16 bits a channel in colour'),
        (tiff(np.dstack([DEEP] * 3), '>', planar=2), '16 bits a channel in colour'),
        (tiff(GREY.astype(np.int8), kind=2), 'signed pixels'),
        (tiff(DEEP.astype(np.int16), kind=2), 'I pixels'),
        (tiff(DEEP.astype(np.uint32)), 'I pixels'),
        (tiff(GREY.astype(np.float32), kind=3), 'F pixels'),
        (tiff(DEEP, '>', photometric=0), 'not a JPEG, PNG or TIFF image'),  # Pillow 13 has no such
        (tiff(GREY).replace(bytes(4) + GREY.tobytes(), b'\x0a\0\0\0' + GREY.tobytes()), 'damaged'),
    ],
)  # fmt: skip
def test_refused_files(data, reason):
    assert refused(data).startswith(reason)


def triangle(values, height, width):
    """Separable triangle filter, widened by the scale, cut at the border; float64."""
    values = values.astype(float)
    for axis, size in enumerate((height, width)):
        scale = values.shape[axis] / size
        centre = (np.arange(size)[:, None] + 0.5) * scale
        weight = np.maximum(1 - abs(np.arange(values.shape[axis]) + 0.5 - centre) / scale, 0)
        weight /= weight.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weight, values, axes=(1, axis)), 0, axis)
    return values


SIDES = [((60, 90), (20, 30)), ((90, 61), (30, 20)), ((45, 45), (20, 20)), ((21, 200), (20, 190))]


@pytest.mark.parametrize(('size', 'smaller'), SIDES)
@pytest.mark.parametrize('form', ['png', 'grey png', 'tiff', 'jpeg', 'grey jpeg'])
def test_a_large_image_is_made_smaller_by_a_triangle_filter(size, smaller, form):
    pixels = smooth(*size, noise=5)[..., slice(None) if 'grey' not in form else 0]
    data = tiff(pixels) if form == 'tiff' else encode(pixels, form.split()[-1])
    found = picture(data, 0, Reading(shorter_side=20))
    lossy = 'jpeg' in form
    assert_is(found, 'L' if 'grey' in form else 'RGB', smaller, JPEG if lossy else PNG)
    source = np.asarray(opened(data)) if lossy else pixels
    error = np.squeeze(levels(found)) - triangle(source, *smaller)
    assert abs(error).max() < (12 if lossy else 1.001)  # Pillow rounds after each axis
    assert abs(error).mean() < (1.8 if lossy else 0.5)


@pytest.mark.parametrize(('size', 'smaller'), SIDES)
@pytest.mark.parametrize('form', ['png', 'tiff', 'white is zero'])
def test_sixteen_bits_are_made_smaller_as_sixteen_bits(size, smaller, form):
    pixels = np.random.default_rng(1).integers(0, 65536, size).astype(np.uint16)
    white = form == 'white is zero'
    data = encode(pixels, 'PNG') if form == 'png' else tiff(pixels, photometric=int(not white))
    found = picture(data, 0, Reading(shorter_side=20))
    assert_is(found, 'I;16', smaller, PNG16)
    expected = triangle(65535 - pixels if white else pixels, *smaller)
    assert abs(np.asarray(opened(found.data)) - expected).max() < 0.52


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'JPEG'])
@pytest.mark.parametrize('side', [21, 22, 4000])
def test_no_image_is_enlarged(form, side):
    found = picture(encode(COLOUR, form), 0, Reading(shorter_side=side))
    assert np.array_equal(levels(found), np.asarray(opened(encode(COLOUR, form))))


def claiming(kind, height, width):
    """A file of a few bytes whose header says another size."""
    if kind == 'png':
        header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
        chunks = (b'IHDR', header), (b'IDAT', zlib.compress(bytes(99))), (b'IEND', b'')
        return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in chunks)
    if kind == 'jpeg':
        size = min(height, 65_535), min(width, 65_535)
        return encode(GREY).replace(struct.pack('>HH', 21, 34), struct.pack('>HH', *size))
    data = tiff(GREY)
    for tag, old, new in ((256, 34, width), (257, 21, height)):
        entry = struct.Struct('<HHII')
        data = data.replace(entry.pack(tag, 4, 1, old), entry.pack(tag, 4, 1, new))
    return data


@pytest.mark.parametrize('kind', ['png', 'tiff', 'jpeg'])
@pytest.mark.parametrize('side', [0, 16])
@pytest.mark.parametrize(
    ('height', 'width', 'reason'),
    [
        (100_000, 100_000, 'more pixels than Pillow opens'),
        (12_000, 10_000, '10000 x 12000 pixels are more than 100,000,000'),
    ],
)
def test_too_many_pixels_take_no_memory(monkeypatch, kind, side, height, width, reason):
    data, taken = claiming(kind, height, width), []
    monkeypatch.setattr(Image.core, 'new', lambda *arguments: taken.append(arguments))
    assert refused(data, Reading(shorter_side=side)) == reason
    assert not taken


@pytest.mark.parametrize('form', ['PNG', 'TIFF', 'JPEG'])
def test_max_pixels_is_the_last_number_accepted(form):
    data = encode(COLOUR, form)
    assert picture(data, 0, Reading(max_pixels=21 * 34)).height == 21
    assert '34 x 21 pixels are more than 713' in refused(data, Reading(max_pixels=713))


@pytest.mark.parametrize('turn', ORIENTATIONS)
@pytest.mark.parametrize('side', [0, 15])
@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'xmp', 'tiff', 'deep png', 'deep tiff'])
def test_images_stand_upright(turn, side, form):
    pixels = smooth(21, 34)
    pixels = pixels[..., 0].astype(np.uint16) * 256 if 'deep' in form else pixels
    if 'tiff' in form:
        data = tiff(pixels, turn=turn, packed=turn % 2 == 0)
    elif form == 'xmp':
        data = encode(pixels, xmp=XMP.format(turn).encode())
    else:
        data = encode(pixels, form.split()[-1], exif=exif(turn))
    found = picture(data, 0, Reading(shorter_side=side))
    kept = not side and 'tiff' not in form
    assert found.orientation == (turn if kept else 1) and SECRET not in found.data
    lossy = form in ('JPEG', 'xmp')
    source = np.asarray(opened(encode(pixels))) if lossy else pixels
    expected = ORIENTATIONS[turn](source)
    if side:
        shape = (15, 24) if turn < 5 else (24, 15)
        expected = triangle(expected, *shape)
    assert (found.height, found.width) == expected.shape[:2] == levels(found).shape[:2]
    with opened(found.data) as image:
        stored = ORIENTATIONS[found.orientation](np.asarray(image)).astype(float)
    assert abs(stored - expected).max() < (15 if lossy and side else 1.001 if side else 1e-9)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'TIFF'])
def test_what_is_encoded_anew_carries_nothing_else(form):
    more = {'JPEG': {'comment': SECRET}, 'PNG': {}, 'TIFF': {'description': SECRET.decode()}}[form]
    data = encode(COLOUR, form, icc_profile=SECRET * 99, exif=exif(), dpi=(72, 72), **more)
    found = picture(data, 0, Reading(shorter_side=15))
    assert SECRET not in found.data
    assert all(key.startswith('jfif') for key in opened(found.data).info)
    if form != 'JPEG':
        assert set(chunk_names(found.data)) == {b'IHDR', b'IDAT', b'IEND'}


VALID = [
    encode(COLOUR, exif=exif(6)), encode(COLOUR, progressive=True, xmp=XMP.format(3).encode()),
    encode(GREY, restart_marker_blocks=1), encode(COLOUR, 'MPO', **pages()), encode(DEEP, 'PNG'),
    encode(COLOUR, 'PNG', exif=exif(8), icc_profile=SECRET), encode(modes(COLOUR)['P'][0], 'PNG'),
    tiff(DEEP, photometric=0), tiff(COLOUR, '>', planar=2, packed=True), tiff(GREY, turn=6),
    encode(COLOUR, 'TIFF', compression='tiff_lzw'), encode(COLOUR, 'TIFF', **pages()),
    encode(GREY > 99, 'TIFF', compression='group4'), encode(GREY, 'TIFF', compression='jpeg'),
]  # fmt: skip
READINGS = [
    Reading(max_pixels=10**6, **options)
    for options in ({}, {'shorter_side': 12}, {'window': Window('minmax')})
]


def looked_at(data, reading):
    """Nothing but ValueError is raised, and what is not refused is what it says."""
    try:
        for frame in range(frames(data, reading)):
            found = picture(data, frame, reading)
            shown = levels(found)
            assert shown.shape == (found.height, found.width, 1 if found.grey else 3)
    except ValueError as error:
        assert str(error) and '\n' not in str(error)


@given(st.sampled_from(VALID), CHANGES, st.sampled_from(READINGS))
@settings(max_examples=500, deadline=None)
def test_damaged_files_are_refused_in_words(data, changes, reading):
    looked_at(changed(data, changes), reading)


@given(
    st.sampled_from([b'', *sorted({data[:8] for data in VALID})]),
    st.binary(max_size=300),
    st.sampled_from(READINGS),
)
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_are_refused_in_words(start, data, reading):
    looked_at(start + data, reading)


@pytest.mark.parametrize('entry', range(11))
@pytest.mark.parametrize('field', [0, 1, 2, 4, 8])
def test_tiffs_with_a_damaged_directory_are_refused_in_words(entry, field):
    for order, pixels in (('<', DEEP), ('>', COLOUR), ('<', GREY)):
        data = bytearray(tiff(pixels, order))
        for value in (0, 1, 2, 5, 11, 12, 255):
            data[8 + 2 + 12 * entry + field] = value
            looked_at(bytes(data), READINGS[value % 3])


@pytest.fixture
def dicom():
    pytest.importorskip('pydicom', reason='DICOM files need pydicom')
    from tests.data.dicom_files import dicom

    return dicom


FULL = np.where(np.arange(21 * 34).reshape(21, 34) < 2, [[0, 255] * 17], GREY).astype(np.uint8)


@pytest.mark.parametrize(('pixels', 'mode'), [(FULL, 'L'), (COLOUR, 'RGB')])
def test_a_dicom_becomes_a_png_with_its_own_channels(dicom, pixels, mode):
    data = dicom(pixels)
    found = picture(data, 0, PLAIN)
    assert frames(data, PLAIN) == 1
    assert_is(found, mode, (21, 34), PNG)
    assert np.array_equal(np.squeeze(levels(found)), pixels)
    assert not [part for part in (b'Verysecret', b'MRN8675309', b'Elsewhere') if part in found.data]


def test_a_window_and_a_smaller_side_of_a_dicom(dicom):
    values = np.linspace(0, 4000, 40 * 60).reshape(40, 60).astype(np.uint16)
    found = picture(dicom(values), 0, Reading(window=Window('values', 1000, 3000)))
    expected = np.rint((values.astype(float) - 1000).clip(0, 2000) * 255 / 2000)
    assert abs(levels(found)[..., 0] - expected).max() <= 1 and found.grey
    small = picture(dicom(values), 0, Reading(Window('values', 1000, 3000), shorter_side=20))
    assert abs(levels(small)[..., 0] - triangle(expected, 20, 30)).max() < 2.001


def test_frames_of_a_dicom_are_refused_or_counted(dicom):
    film = np.stack([FULL, 255 - FULL, FULL // 2])
    data = dicom(film, frames=3, WindowCenter=128, WindowWidth=256)
    split = Reading(split_frames=True)
    assert refused(data) == '3 frames; --frames=split makes each an image of the case'
    assert frames(data, split) == 3
    for i, pixels in enumerate(film):
        assert np.array_equal(levels(picture(data, i, split))[..., 0], pixels)
    with pytest.raises(ValueError, match='no frame 3'):
        picture(data, 3, split)


def test_names_in_the_pixels_of_a_dicom_are_refused_unless_accepted(dicom):
    data = dicom(FULL, BurnedInAnnotation='YES')
    assert '--burned_in=keep' in refused(data)
    assert frames(data, Reading(burned_in=True)) == 1
    assert frames(dicom(FULL, BurnedInAnnotation='NO'), PLAIN) == 1


def test_too_many_pixels_of_a_dicom_are_refused(dicom):
    film = dicom(np.stack([FULL] * 3), frames=3)
    reading = Reading(split_frames=True, max_pixels=3 * 21 * 34 - 1)
    assert '2,141' in refused(film, reading)
    assert '713' in refused(dicom(FULL), Reading(max_pixels=713))
