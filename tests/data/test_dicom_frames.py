import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pydicom = pytest.importorskip('pydicom', reason='DICOM files need pydicom')

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.encaps import encapsulate_extended  # noqa: E402
from pydicom.pixels import apply_color_lut  # noqa: E402

from big_ssl.data.dicom_frames import checked_header, numbers, read_samples  # noqa: E402
from tests.data.dicom_files import (  # noqa: E402
    EXTENDED,
    JPEG,
    JPEG_LS,
    MAX_PIXELS,
    NEEDS_GDCM,
    SYNTAXES,
    dicom,
    encoded,
    film,
    frame,
    grey_jpeg,
    refused,
    shipped,
)

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:pydicom')


def stored(data, index=0):
    """The values of a frame, before windows and the like."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    header = checked_header(dataset, MAX_PIXELS)
    samples = read_samples(dataset, header, index)
    return samples if header.samples == 3 else numbers(samples, header, header.stored)


def raw(name, dtype, *shape):
    """Uncompressed pixels without any decoder."""
    data = pydicom.dcmread(io.BytesIO(shipped(name))).PixelData
    return np.frombuffer(data, dtype)[: np.prod(shape)].reshape(shape)


BY_GDCM = """
import io, sys, numpy, pydicom
dataset = pydicom.dcmread(sys.argv[1])
decoder = pydicom.pixels.get_decoder(dataset.file_meta.TransferSyntaxUID)
pixels = decoder.as_array(dataset, index=int(sys.argv[2]), decoding_plugin='gdcm')[0]
saved = io.BytesIO()
numpy.save(saved, pixels)
sys.stdout.buffer.write(saved.getvalue())
"""


def by_gdcm(name, index=0):
    """By pydicom and gdcm, in a process of their own."""
    pytest.importorskip('gdcm', reason='the other decoder is python-gdcm')
    command = [sys.executable, '-c', BY_GDCM, get_testdata_file(name, download=False), str(index)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return np.load(io.BytesIO(done.stdout)).astype(int)


@pytest.mark.parametrize(
    'name',
    ['RLE', 'jp2klossless', 'jpeg_ls_lossless', 'bigendian', 'expb', 'implicit', 'padded'],
)
def test_one_image_in_several_syntaxes(name):
    expected = raw('MR_small.dcm', '<i2', 64, 64)
    assert np.array_equal(stored(shipped(f'MR_small_{name}.dcm')), expected)
    assert np.array_equal(frame(shipped(f'MR_small_{name}.dcm')), frame(shipped('MR_small.dcm')))


@pytest.mark.parametrize(
    ('name', 'tolerance'),
    [
        ('SC_rgb_gdcm_KY.dcm', 0),
        ('SC_rgb_jpeg_gdcm.dcm', 0),
        ('SC_rgb_rle_2frame.dcm', 0),
        ('SC_rgb_jls_lossy_line.dcm', 2),
        ('SC_rgb_jls_lossy_sample.dcm', 2),
        ('SC_rgb_dcmtk_+eb+cr.dcm', 2),
        ('SC_rgb_dcmtk_+eb+cy+n2.dcm', 6),
        ('SC_rgb_dcmtk_+eb+cy+s2.dcm', 6),
        ('SC_rgb_dcmtk_+eb+cy+s4.dcm', 6),
        ('SC_rgb_jpeg_dcmtk.dcm', 6),
        ('SC_ybr_full_422_uncompressed.dcm', 6),
    ],
)
def test_one_colour_image_in_several_syntaxes(name, tolerance):
    expected = stored(shipped('SC_rgb_rle.dcm')).astype(int)
    assert np.abs(stored(shipped(name)) - expected).max() <= tolerance


@pytest.mark.parametrize('name', ['SC_rgb_jpeg.dcm', 'SC_jpeg_no_color_transform.dcm'])
def test_jpeg_that_is_rgb_inside(name):
    expected = raw('SC_rgb_jpeg_dcmd.dcm', np.uint8, 256, 256, 3).astype(int)
    assert np.abs(stored(shipped(name)) - expected).max() <= 1


@pytest.mark.parametrize(
    ('name', 'tolerance'),
    [
        ('693_J2KI.dcm', 0),
        ('J2K_pixelrep_mismatch.dcm', 0),
        ('JPEG2000.dcm', 0),
        ('examples_jpeg2k.dcm', 0),
        ('SC_jpeg_no_color_transform_2.dcm', 1),
        ('SC_rgb_jpeg_app14_dcmd.dcm', 1),
        ('SC_rgb_small_odd_jpeg.dcm', 2),
        ('SC_rgb_dcmtk_+eb+cy+n1.dcm', 2),  # with colour at half the resolution
        ('SC_rgb_dcmtk_+eb+cy+np.dcm', 2),
        ('SC_rgb_jpeg_lossy_gdcm.dcm', 2),
    ],
)
def test_pillow_and_gdcm_agree(name, tolerance):
    assert np.abs(stored(shipped(name)) - by_gdcm(name)).max() <= tolerance


def test_each_frame_of_a_film():
    data = shipped('examples_ybr_color.dcm')
    for index in (0, 7, 29):
        difference = np.abs(stored(data, index) - by_gdcm('examples_ybr_color.dcm', index))
        assert difference.max() <= 3 and difference.mean() < 0.3
    assert (stored(data, 0) != stored(data, 7)).any()


def test_near_lossless_jpeg_ls():
    """The greys of both phantoms, as pydicom's own tests have them."""
    for name, greys in (
        ('JPEGLSNearLossless_08.dcm', [255, 125, 65, 30, 15, 5, 5, 0, 0]),
        ('JPEGLSNearLossless_16.dcm', [65535, 32765, 16385, 4095, 1025, 255, 65, 15, 5, 0]),
    ):
        assert stored(shipped(name))[::5, 0].tolist() == greys


def test_palette_against_pydicom():
    dataset = pydicom.dcmread(io.BytesIO(shipped('examples_palette.dcm')))
    expected = apply_color_lut(dataset.pixel_array, dataset) >> 8
    assert np.array_equal(frame(shipped('examples_palette.dcm')), expected)


@pytest.mark.parametrize('name', ['image_dfl.dcm', 'examples_overlay.dcm', 'CT_small.dcm'])
def test_uncompressed_against_pydicom(name):
    dataset = pydicom.dcmread(io.BytesIO(shipped(name)))
    assert np.array_equal(stored(shipped(name)), dataset.pixel_array)


def test_big_endian_colour():
    expected = raw('SC_rgb_small_odd.dcm', np.uint8, 3, 3, 3)
    assert np.array_equal(stored(shipped('SC_rgb_small_odd_big_endian.dcm')), expected)
    planes = raw('ExplVR_BigEnd.dcm', np.uint8, 3, 60, 80)
    assert np.array_equal(stored(shipped('ExplVR_BigEnd.dcm')), planes.transpose(1, 2, 0))


RNG = np.random.default_rng(0)
SIGNED = (RNG.integers(-2048, 2048, (20, 30)) * np.linspace(0, 1, 30)).astype(np.int16)
GREYS = {
    '8 bits': (np.arange(600, dtype=np.uint8).reshape(20, 30), {}),
    '12 of 16 bits': ((SIGNED + 2048).astype(np.uint16), {'BitsStored': 12}),
    '16 bits': ((SIGNED.astype(int) * 15 + 32768).astype(np.uint16), {}),
    'signed 16 bits': (SIGNED * 15, {}),
    'signed 12 of 16 bits': (SIGNED, {'BitsStored': 12}),
}


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('kind', GREYS)
def test_lossless_grey(tmp_path, syntax, kind):
    pixels, attributes = GREYS[kind]
    plain = dicom(pixels, **attributes)
    assert np.array_equal(stored(plain), pixels)
    assert np.array_equal(stored(encoded(tmp_path, plain, syntax)), pixels)


# 8 x 8 values of 12 bits, by pyjpegls.
TWELVE_BITS = (
    'ffd8fff7000b0c0008000801011100ffda0008010100000000000000001ffd00000000def97004ff710adf1e00800000'
    '000ffe000000006790000000003ffaff590963000000000ffe4b81009002000000003ff7040240141a8110220681a068'
    '120481d020821084207ff8ffd9'
)


@NEEDS_GDCM
def test_jpeg_ls_does_not_know_of_signs():
    rows = [[-2048, -1000, -1, 0] * 2, [1, 5, 1000, 2047] * 2, *([grey] * 8 for grey in (-5, 7))]
    expected = np.array(rows + [[0] * 8] * 4, np.int16)
    data = dicom(expected, JPEG_LS, codestreams=[bytes.fromhex(TWELVE_BITS)], BitsStored=12)
    assert np.array_equal(stored(data), expected)


@pytest.mark.parametrize('syntax', SYNTAXES)
@pytest.mark.parametrize('colour', ['RGB', 'YBR_FULL'])
def test_lossless_colour(tmp_path, syntax, colour):
    pixels = np.stack(
        [GREYS['8 bits'][0], SIGNED.astype(np.uint8), SIGNED.T.reshape(20, 30) % 200], -1
    )
    plain = dicom(pixels.astype(np.uint8), PhotometricInterpretation=colour)
    data = encoded(tmp_path, plain, syntax)
    if (syntax, colour) == ('JPEG2000Lossless', 'YBR_FULL'):  # it could be converted twice
        assert 'Photometric Interpretation' in refused(frame, data)
    else:
        assert np.array_equal(stored(data), stored(plain))


@pytest.mark.parametrize('syntax', SYNTAXES)
def test_planes_that_the_codec_does_not_know(tmp_path, syntax):
    """Planar Configuration 1 in the header says nothing of compressed pixels."""
    pixels = RNG.integers(0, 256, (32, 40, 3), np.uint8)
    data = encoded(tmp_path, dicom(pixels), syntax, PlanarConfiguration=1)
    assert np.array_equal(stored(data), pixels)


def jpeg(ybr, *, jfif=False, adobe=None, letters=False):
    """The three planes as they are, with or without markers of their colour."""
    file = io.BytesIO()
    image = Image.frombytes('YCbCr', ybr.shape[1::-1], ybr.tobytes())
    image.save(file, 'JPEG', quality=98, subsampling=0)
    data = file.getvalue()
    end = 4 + int.from_bytes(data[4:6])
    start, data = data[2:end] if jfif else b'', data[end:]
    if adobe is not None:
        start += b'\xff\xee\x00\x0eAdobe\x00\x64' + bytes([0, 0, 0, 0, adobe])
    if letters:
        for marker, first, step in ((b'\xff\xc0', 10, 3), (b'\xff\xda', 5, 2)):
            at = data.index(marker) + first
            for part, letter in enumerate(b'RGB'):
                data = data[: at + step * part] + bytes([letter]) + data[at + step * part + 1 :]
    return b'\xff\xd8' + start + data


Y, X = np.mgrid[:32, :40]
COLOURED = np.stack([Y * 7, X * 6, 255 - Y * 3 - X * 3], -1).astype(np.uint8)


@pytest.mark.parametrize('said', ['RGB', 'YBR_FULL', 'YBR_FULL_422'])
@pytest.mark.parametrize(
    ('inside', 'marks'),
    [
        ('YCbCr', {'jfif': True}),
        ('YCbCr', {'adobe': 1}),
        ('YCbCr', {'jfif': True, 'adobe': 1}),
        ('RGB', {'adobe': 0}),
        ('RGB', {'letters': True}),
        ('RGB', {'adobe': 0, 'letters': True}),
    ],
)
def test_jpegs_markers_say_its_colours(said, inside, marks):
    planes = (
        np.asarray(Image.fromarray(COLOURED).convert('YCbCr')) if inside == 'YCbCr' else COLOURED
    )
    data = dicom(
        COLOURED, JPEG, codestreams=[jpeg(planes, **marks)], PhotometricInterpretation=said
    )
    assert np.abs(stored(data).astype(int) - COLOURED).max() <= 5


@pytest.mark.parametrize('said', ['RGB', 'YBR_FULL', 'YBR_FULL_422'])
def test_jpeg_without_markers_is_what_the_header_says(said):
    planes = COLOURED if said == 'RGB' else np.asarray(Image.fromarray(COLOURED).convert('YCbCr'))
    data = dicom(COLOURED, EXTENDED, codestreams=[jpeg(planes)], PhotometricInterpretation=said)
    assert np.abs(stored(data).astype(int) - COLOURED).max() <= 5


def test_frames_by_every_kind_of_table():
    codestreams = [grey_jpeg(value) for value in (10, 120, 250)]
    _, offsets, lengths = encapsulate_extended(codestreams[::-1])
    turned = [np.frombuffer(table, '<u8')[::-1].tobytes() for table in (offsets, lengths)]
    extended = dict(zip(('ExtendedOffsetTable', 'ExtendedOffsetTableLengths'), turned))
    for file in (film(codestreams), film(codestreams[::-1], has_table=False, **extended)):
        assert [int(stored(file, index)[0, 0]) for index in range(3)] == [10, 120, 250]
