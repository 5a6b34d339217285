import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from big_ssl.preparation.metadata import strip_jpeg, strip_png
from tests.data.test_images import ORIENTATIONS
from tests.helpers import smooth

SECRET = b'Verysecret'
PIXELS = smooth(40, 56, noise=12)
XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="{}" dc:creator="Verysecret"/></x:xmpmeta>'


def encode(pixels, kind='JPEG', **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def opened(data):
    return Image.open(io.BytesIO(data))


def exif(turn=None):
    """With a name, a place and, where asked, an orientation."""
    block = Image.Exif()
    block[0x013B], block[0x010E] = SECRET.decode(), f'of {SECRET.decode()}'
    block.get_ifd(0x8825).update({1: 'N', 2: (48.0, 8.0, 14.0), 29: SECRET.decode()})
    if turn is not None:
        block[0x0112] = turn
    return block.tobytes()


def segment(kind, content):
    return struct.pack('>BBH', 0xFF, kind, len(content) + 2) + content


def put(data, *segments, before=None):
    """Segments put after the start of image, or before the first marker `before`."""
    at = 2 if before is None else data.index(bytes([0xFF, before]))
    return data[:at] + b''.join(segments) + data[at:]


def chunk(name, content):
    check = struct.pack('>I', zlib.crc32(name + content))
    return struct.pack('>I', len(content)) + name + content + check


def put_chunks(png, *chunks, before=b'IDAT'):
    at = png.index(before) - 4
    return png[:at] + b''.join(chunks) + png[at:]


def chunk_names(png):
    at, names = 8, []
    while at < len(png):
        names.append(png[at + 4 : at + 8])
        at += 12 + int.from_bytes(png[at : at + 4], 'big')
    return names


def tiff(pixels, order='<', photometric=None, *, planar=1, packed=False, kind=1, turn=None):
    """A TIFF of one page as TIFF 6.0 says, which Pillow does not write in all these ways."""
    (height, width), samples = pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1
    planes = np.moveaxis(pixels, -1, 0) if planar == 2 else [pixels]
    parts = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in planes]
    parts = [zlib.compress(part) for part in parts] if packed else parts
    photometric = (1 if samples == 1 else 2) if photometric is None else photometric
    fields = {
        256: [width], 257: [height], 258: [8 * pixels.dtype.itemsize] * samples,
        259: [8 if packed else 1], 262: [photometric], 273: [0] * len(parts), 277: [samples],
        278: [height], 279: [len(part) for part in parts], 284: [planar], 339: [kind] * samples,
    } | ({} if turn is None else {274: [turn]})  # fmt: skip
    body_at = 8 + 2 + 12 * len(fields) + 4
    body, fields[273] = b''.join(parts) + b'\0' * (sum(map(len, parts)) % 2), []
    for i in range(len(parts)):
        fields[273].append(body_at + sum(fields[279][:i]))
    directory = struct.pack(f'{order}H', len(fields))
    for tag, values in sorted(fields.items()):
        data = struct.pack(f'{order}{len(values)}I', *values)
        if len(values) > 1:
            data, body = struct.pack(f'{order}I', body_at + len(body)), body + data
        directory += struct.pack(f'{order}HHI', tag, 4, len(values)) + data
    start = (b'II' if order == '<' else b'MM') + struct.pack(f'{order}HI', 42, 8)
    return start + directory + bytes(4) + body


def assert_same_picture(data, stripped, tensorflow=True):
    before, after = opened(data), opened(stripped)
    assert before.mode == after.mode
    np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
    if tensorflow:
        tf = pytest.importorskip('tensorflow')
        is_jpeg = data.startswith(b'\xff\xd8')
        decode = tf.io.decode_jpeg if is_jpeg else tf.io.decode_png
        np.testing.assert_array_equal(decode(stripped).numpy(), decode(data).numpy())


PLAIN = encode(PIXELS, quality=92)
JFXX = segment(0xE0, b'JFXX\0\x13\1\1' + SECRET)
THUMBNAIL = segment(0xE0, b'JFIF\0\1\1\0\0\1\0\1\4\1' + SECRET + b'xy')  # 4 x 1 pixels of 3 bytes
ADOBE = b'Adobe\0\x64\0\0\0\0\1'
PHOTOSHOP = b'Photoshop 3.0\0008BIM\4\4\0\0\0\0\0\x0a' + SECRET
MPO = encode(
    PIXELS, 'MPO', quality=92, save_all=True,
    append_images=[opened(encode(PIXELS[::2], comment=SECRET))],
)  # fmt: skip

JPEGS = {
    'nothing': PLAIN,
    'exif': encode(PIXELS, quality=92, exif=exif()),
    'exif twice': put(PLAIN, *(segment(0xE1, exif()) for _ in range(2))),
    'preview in exif': put(PLAIN, segment(0xE1, exif() + encode(PIXELS[:8], comment=SECRET))),
    'xmp': encode(PIXELS, quality=92, xmp=XMP.format(1).encode()),
    'icc': encode(PIXELS, quality=92, icc_profile=SECRET * 9_000),
    'comment': encode(PIXELS, quality=92, comment=SECRET),
    'iptc': put(PLAIN, segment(0xED, PHOTOSHOP)),
    'jfxx': put(PLAIN, JFXX, before=0xDB),
    'jfif thumbnail': THUMBNAIL.join((PLAIN[:2], PLAIN[20:])),
    'short jfif': put(PLAIN, segment(0xE0, b'JFIF\0\1\1\0')),
    'adobe with more': put(PLAIN, segment(0xEE, ADOBE + SECRET), before=0xDB),
    'short adobe': put(PLAIN, segment(0xEE, b'Adobe\0\x64'), segment(0xE9, SECRET)),
    'every application': put(PLAIN, *(segment(0xE0 + i, SECRET) for i in range(16))),
    'number of lines': put(PLAIN, segment(0xDC, SECRET), before=0xDB),
    'junk': put(PLAIN, SECRET, before=0xDB),
    'junk with marks': put(PLAIN, b'\xff\0', SECRET, b'\xff\xd3\xff\xff', before=0xC4),
    'after the end': PLAIN + SECRET + PLAIN,
    'mpo': MPO,
}


@pytest.mark.parametrize('name', JPEGS)
def test_of_a_jpeg_only_the_picture_stays(name):
    data = JPEGS[name]
    stripped = strip_jpeg(data)
    assert (SECRET in data) == (name not in ('nothing', 'short jfif')) and SECRET not in stripped
    assert_same_picture(data, stripped)
    assert stripped == (put(PLAIN, segment(0xEE, ADOBE), before=0xDB) if 'more' in name else PLAIN)
    assert strip_jpeg(stripped) == stripped


GREY, RGB = PIXELS[..., 0], Image.fromarray(PIXELS)
WAYS = {
    'progressive': encode(PIXELS, progressive=True),
    'progressive in grey': encode(GREY, progressive=True),
    'grey': encode(GREY),
    'restarts': encode(PIXELS, restart_marker_blocks=1),
    'restarts in progressive': encode(PIXELS, restart_marker_rows=1, progressive=True),
    '4:4:4': encode(PIXELS, subsampling=0),
    '4:2:2': encode(PIXELS, subsampling=1),
    '4:2:0': encode(PIXELS, subsampling=2),
    'optimised': encode(PIXELS, optimize=True, quality=5),
    'rgb': encode(PIXELS, keep_rgb=True),
    'one pixel': encode(PIXELS[:1, :1]),
}


@pytest.mark.parametrize('way', WAYS)
def test_a_jpeg_of_each_kind_decodes_to_the_same_pixels(way):
    data = put(WAYS[way], segment(0xE1, exif()), segment(0xFE, SECRET))
    assert_same_picture(data, strip_jpeg(data))
    assert strip_jpeg(data) == strip_jpeg(WAYS[way])


@pytest.mark.parametrize('number', [2, 3, 4])
def test_a_mark_without_a_length_between_two_scans_does_not_swallow_one(number):
    """TEM and RSTn stand alone (T.81, table B.1)."""
    parts = WAYS['progressive'].split(b'\xff\xda')
    for mark in (b'\xff\1', b'\xff\xd5'):
        data = b'\xff\xda'.join(parts[:number]) + mark + b'\xff\xda'
        data += b'\xff\xda'.join(parts[number:])
        assert_same_picture(data, strip_jpeg(data))


def test_a_cmyk_jpeg_decodes_to_the_same_pixels():
    data = put(encode(RGB.convert('CMYK'), quality=90), segment(0xFE, SECRET))
    assert opened(strip_jpeg(data)).info['adobe_transform'] == opened(data).info['adobe_transform']
    assert_same_picture(data, strip_jpeg(data), tensorflow=False)


def with_components(data, names):
    """The names of the three components in frame and scan headers."""
    data = bytearray(data)
    frame, scan = data.index(b'\xff\xc0'), data.index(b'\xff\xda')
    for i, name in enumerate(names):
        data[frame + 10 + 3 * i] = data[scan + 5 + 2 * i] = name
    return bytes(data)


@pytest.mark.parametrize(
    ('data', 'needed'),
    [
        (with_components(WAYS['rgb'], b'\1\2\3'), 0xEE),  # Adobe says RGB, the names YCbCr
        (with_components(PLAIN, b'RGB'), 0xE0),  # JFIF says YCbCr, the names RGB
    ],
)
def test_what_says_the_colours_stays(data, needed):
    at = data.index(bytes([0xFF, needed]))
    without = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big') :]
    assert not np.array_equal(np.asarray(opened(without)), np.asarray(opened(data)))
    assert_same_picture(data, strip_jpeg(data))


def oriented(kind, carrier, turn):
    if carrier == 'xmp':
        return encode(PIXELS, kind, xmp=XMP.format(turn).encode())
    return encode(PIXELS, kind, exif=exif(turn))


@pytest.mark.parametrize('turn', ORIENTATIONS)
@pytest.mark.parametrize(('kind', 'carrier'), [('JPEG', 'exif'), ('JPEG', 'xmp'), ('PNG', 'exif')])
def test_the_orientation_and_nothing_else_of_exif_stays(kind, carrier, turn):
    data = oriented(kind, carrier, turn)
    strip = strip_jpeg if kind == 'JPEG' else strip_png
    stripped = strip(data, turn)
    assert SECRET not in stripped
    assert dict(opened(stripped).getexif()) == ({} if turn == 1 else {0x0112: turn})
    assert_same_picture(data, stripped)
    upright = np.asarray(ImageOps.exif_transpose(opened(stripped)))
    np.testing.assert_array_equal(upright, np.asarray(ImageOps.exif_transpose(opened(data))))
    np.testing.assert_array_equal(upright, ORIENTATIONS[turn](np.asarray(opened(data))))
    assert strip(stripped, turn) == stripped


DEEP = GREY.astype(np.uint16) * 257
ALPHA = np.dstack([PIXELS, 255 - GREY])
PNGS = {
    'RGB': encode(PIXELS, 'PNG'),
    'L': encode(GREY, 'PNG'),
    '1': encode(GREY > 128, 'PNG'),
    'LA': encode(ALPHA[..., 2:], 'PNG'),
    'RGBA': encode(ALPHA, 'PNG'),
    'P': encode(RGB.quantize(16), 'PNG', transparency=3),
    'transparent colour': encode(PIXELS, 'PNG', transparency=(1, 2, 3)),
    'I;16': encode(DEEP, 'PNG'),
}


def texts():
    info = PngImagePlugin.PngInfo()
    info.add_text('Author', SECRET.decode())
    info.add_text('Comment', SECRET.decode() * 9, zip=True)
    info.add_itxt('Title', SECRET.decode() * 9, 'en', 'Title', zip=True)
    info.add_itxt('XML:com.adobe.xmp', XMP.format(1))
    return info


@pytest.mark.parametrize('mode', PNGS)
def test_of_a_png_only_the_picture_stays(mode):
    plain = PNGS[mode]
    full = encode(
        opened(plain), 'PNG', pnginfo=texts(), exif=exif(), icc_profile=SECRET * 99, dpi=(72, 72),
        **({'transparency': opened(plain).info['transparency']} if b'tRNS' in plain else {}),
    )  # fmt: skip
    full = put_chunks(full, chunk(b'gAMA', struct.pack('>I', 99_999)), chunk(b'prVt', SECRET))
    full = put_chunks(full, chunk(b'tIME', b'\x07\xe4' + bytes(5)), chunk(b'tEXt', b'a\0' + SECRET),
                      before=b'IEND') + SECRET  # fmt: skip
    stripped = strip_png(full)
    assert len(chunk_names(full[: -len(SECRET)])) >= len(chunk_names(stripped)) + 9
    assert set(chunk_names(stripped)) <= {b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND'}
    assert SECRET not in stripped and stripped == plain
    assert opened(stripped).info.get('transparency') == opened(full).info.get('transparency')
    assert_same_picture(full, stripped)
    assert strip_png(stripped) == stripped


def test_sixteen_bits_stay_sixteen_bits():
    tf = pytest.importorskip('tensorflow')
    stripped = strip_png(PNGS['I;16'])
    np.testing.assert_array_equal(np.asarray(opened(stripped)), DEEP)
    assert tf.io.decode_png(stripped, dtype=tf.uint16).numpy()[..., 0].tolist() == DEEP.tolist()


@pytest.mark.parametrize('data', [encode(PIXELS[:16, :16], exif=exif(6)), MPO])
def test_a_jpeg_cut_anywhere_before_its_end_is_refused(data):
    end = data.index(b'\xff\xd9', data.index(b'\xff\xda'))
    for cut in range(2, end + 2):
        with pytest.raises(ValueError, match='of the JPEG'):
            strip_jpeg(data[:cut])


@pytest.mark.parametrize('mode', ['P', 'I;16'])
def test_a_png_cut_anywhere_is_refused(mode):
    data = encode(opened(PNGS[mode]), 'PNG', exif=exif(6), pnginfo=texts())
    for cut in range(8, len(data)):
        with pytest.raises(ValueError, match='the end of the PNG is missing'):
            strip_png(data[:cut], 6)


@pytest.mark.parametrize('length', [0, 1])
@pytest.mark.parametrize('kind', [0xDB, 0xE1, 0xDA])
def test_a_jpeg_segment_that_is_shorter_than_its_length_is_refused(kind, length):
    data = put(PLAIN, bytes([0xFF, kind, 0, length]), before=0xDB)
    with pytest.raises(ValueError, match='without a length'):
        strip_jpeg(data)


@pytest.mark.parametrize('kind', [0x02, 0xBF, 0xD8, 0xDE, 0xDF, 0xF0, 0xFD])
def test_a_jpeg_with_a_segment_of_no_known_kind_is_refused(kind):
    data = put(PLAIN, segment(kind, SECRET), before=0xDB)
    with pytest.raises(ValueError, match=f'damaged: a segment with the marker FF{kind:02X}'):
        strip_jpeg(data)


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.sampled_from(['set', 'insert', 'delete', 'cut']),
        st.sampled_from([b'\0', b'\xff', b'\xff\xd9', b'\xff\1', b'\xff\xe1\0\x04', b'\xff\xd0'])
        | st.binary(min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def changed(data, changes):
    """Damaged as the list says; the first three bytes stay."""
    for place, how, content in changes:
        at = 3 + place % max(1, len(data) - 3)
        end = {'set': at + len(content), 'insert': at, 'delete': at + len(content)}.get(how)
        data = data[:at] + (content if how in ('set', 'insert') else b'') + (
            b'' if end is None else data[end:]
        )  # fmt: skip
    return data


def pixels_or_none(data):
    try:
        with opened(data) as image:
            return np.asarray(image)
    except Exception:  # whatever Pillow says of a damaged file
        return None


ONE_PICTURE = [
    *WAYS.values(),
    *(JPEGS[name] for name in sorted(JPEGS.keys() - {'mpo', 'after the end'})),
]


@pytest.mark.filterwarnings('ignore')  # Pillow's, of damaged EXIF
@given(st.sampled_from(ONE_PICTURE), CHANGES)
@settings(max_examples=400, deadline=None)
def test_a_damaged_jpeg_is_refused_or_decodes_as_it_did(data, changes):
    data = changed(data, changes)
    try:
        stripped = strip_jpeg(data)
    except ValueError:
        return
    before = pixels_or_none(data)
    if before is not None:
        np.testing.assert_array_equal(pixels_or_none(stripped), before)
    assert strip_jpeg(stripped) == stripped


@pytest.mark.filterwarnings('ignore')  # Pillow's, of damaged EXIF
@given(st.sampled_from(list(PNGS.values())), CHANGES)
@settings(max_examples=200, deadline=None)
def test_a_damaged_png_is_refused_or_decodes_as_it_did(data, changes):
    data = changed(data, changes)
    try:
        stripped = strip_png(data)
    except ValueError:
        return
    before = pixels_or_none(data)
    if before is not None:
        np.testing.assert_array_equal(pixels_or_none(stripped), before)
    assert strip_png(stripped) == stripped


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_refused_or_stripped(data):
    for strip, start in ((strip_jpeg, b'\xff\xd8'), (strip_png, b'\x89PNG\r\n\x1a\n')):
        for orientation in (1, 6):
            try:
                stripped = strip(start + data, orientation)
            except ValueError:
                continue
            assert stripped.startswith(start)
