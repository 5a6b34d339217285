import importlib.util
import io
import logging
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pydicom = pytest.importorskip('pydicom', reason='DICOM files need pydicom')

from pydicom.encaps import encapsulate, get_frame  # noqa: E402

from big_ssl.data import dicom_frames  # noqa: E402
from big_ssl.data.dicom import is_dicom, read_frame, read_header  # noqa: E402
from big_ssl.data.windows import Window  # noqa: E402
from big_ssl.errors import InputError  # noqa: E402
from tests.data.dicom_files import (  # noqa: E402
    EXPLICIT,
    IMPLICIT,
    JPEG,
    MAX_PIXELS,
    NEEDS_GDCM,
    PERSONAL,
    RLE,
    dicom,
    encoded,
    film,
    frame,
    grey_jpeg,
    lookup_table,
    palette,
    refused,
    shipped,
)


def test_header():
    file = dicom(np.zeros((5, 7), np.uint16), BurnedInAnnotation='YES')
    header = read_header(file, max_pixels=35)
    assert (header.rows, header.columns, header.frames, header.channels) == (5, 7, 1, 1)
    assert header.burned_in
    for said in ('NO', '', None):
        plain = dicom(np.zeros((5, 7, 3), np.uint8), BurnedInAnnotation=said, NumberOfFrames=None)
        header = read_header(plain, max_pixels=35)
        assert (header.frames, header.channels, header.burned_in) == (1, 3, False)


def test_the_header_is_read_where_the_pixels_are_cut_off():
    file = dicom(np.zeros((50, 70), np.uint16))
    assert read_header(file[: len(file) - 6000], max_pixels=3500).rows == 50
    assert 'cut short: 1000 bytes of 7000' in refused(frame, file[: len(file) - 6000])


GREY, RGB = np.zeros((4, 6), np.uint16), np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ('file', 'reason'),
    [
        (b'', 'not a DICOM file'),
        (b'\x89PNG' + bytes(200), 'not a DICOM file'),
        (dicom(GREY)[132:], 'save it with preamble'),
        (dicom(GREY, Rows=None), 'no Rows: not an image'),
        (dicom(GREY, Columns=None), 'no Columns'),
        (dicom(GREY, Rows=0), '0 x 6 pixels'),
        (dicom(GREY, BitsStored=None, HighBit=15), 'no BitsStored'),
        (dicom(GREY, PhotometricInterpretation=None), 'Photometric Interpretation is not MONO'),
        (dicom(GREY, PhotometricInterpretation='HSV'), 'Photometric Interpretation is not MONO'),
        (dicom(GREY, PhotometricInterpretation='RGB'), '1 samples a pixel with RGB'),
        (dicom(RGB, PhotometricInterpretation='MONOCHROME2'), '3 samples a pixel'),
        (dicom(RGB, PhotometricInterpretation='YBR_ICT'), 'Photometric Interpretation is not'),
        (dicom(RGB.astype(np.uint16)), 'colour of other than 8 bits'),
        (dicom(RGB, BitsStored=7), 'colour of other than 8 bits'),
        (dicom(RGB.view(np.int8)), 'colour of other than 8 bits'),
        (dicom(GREY.astype(np.uint32)), '32 bits allocated'),
        (dicom(GREY, BitsAllocated=1, BitsStored=1), '1 bits allocated'),
        (dicom(GREY, BitsStored=17), '17 bits stored of 16'),
        (dicom(GREY, BitsStored=12, HighBit=15), 'High Bit is not 11'),
        (dicom(GREY, PixelRepresentation=2), 'Pixel Representation 2'),
        (dicom(GREY, NumberOfFrames=-1), '-1 frames'),
        (dicom(GREY, Rows=4000, Columns=4000), 'more than 10,000,000 pixels'),
        (dicom(GREY, NumberOfFrames=10**6), 'more than 10,000,000 pixels'),
        (dicom(GREY, PresentationLUTShape='INVERSE'), 'contradicts MONOCHROME2'),
        (dicom(GREY, PresentationLUTShape='IDENTITY', PhotometricInterpretation='MONOCHROME1'),
         'contradicts MONOCHROME1'),
        (dicom(GREY, '1.2.840.10008.1.2.4.102', codestreams=[b'ab']), 'MPEG-4 AVC/H.264 High'),
        (dicom(GREY, '1.2.840.10008.1.2.4.201', codestreams=[b'ab']), 'convert it to Explicit'),
        (dicom(GREY, '1.2.840.113619.5.2'), 'a private or missing transfer syntax'),
        (dicom(GREY, '1.2.840.10008.1.2.4.51', codestreams=[b'ab']), 'JPEG of more than 8 bits'),
    ],
)  # fmt: skip
def test_refused_by_the_header(file, reason):
    assert reason in refused(read_header, file, max_pixels=MAX_PIXELS)
    assert reason in refused(frame, file)


SLOPE, WINDOW = {'RescaleSlope': '1'}, {'WindowCenter': '5', 'WindowWidth': '10'}
TABLE = lookup_table(0, [1, 2, 3], 16, 'OW')
XA = '1.2.840.10008.5.1.4.1.1.12.1'


@pytest.mark.parametrize(
    ('file', 'reason'),
    [
        (dicom(GREY, PixelData=b''), 'no pixel data'),
        (dicom(GREY, PixelData=bytes(46)), 'cut short: 46 bytes of 48'),
        (dicom(GREY, PixelData=bytes(96)), '96 bytes of pixel data where its header says 48'),
        (dicom(GREY, **SLOPE), 'Rescale'),
        (dicom(GREY, RescaleSlope='0', RescaleIntercept='0'), 'Rescale'),
        (dicom(GREY, RescaleSlope=['1', '2'], RescaleIntercept='0'), 'or several'),
        (dicom(GREY, **WINDOW | {'WindowWidth': None}), 'is missing'),
        (dicom(GREY, **WINDOW | {'WindowWidth': '0.5'}), 'LINEAR window of a width below 1'),
        (dicom(GREY, **WINDOW | {'WindowWidth': '0'}, VOILUTFunction='SIGMOID'), 'the width 0'),
        (dicom(GREY, **WINDOW, VOILUTFunction='GAMMA'), 'VOI LUT Function'),
        (dicom(GREY, VOILUTSequence=[lookup_table(0, [1, 2, 1024], 10)]), 'lookup table'),
        (dicom(GREY, ModalityLUTSequence=[TABLE], SOPClassUID=XA), 'not made for display'),
        (dicom(GREY, PhotometricInterpretation='PALETTE COLOR'), 'no palette'),
        (dicom(GREY, **palette(16, [[1, 2]] * 3, count=3)), 'lookup table'),
        (dicom(GREY, **palette(16, [[1, 255]] * 3)), 'black throughout'),
        (dicom(np.zeros((4, 5, 3), np.uint8), PhotometricInterpretation='YBR_FULL_422'),
         'of an odd width'),
        (dicom(RGB, PhotometricInterpretation='YBR_FULL_422', PlanarConfiguration=1), 'by plane'),
        (dicom(RGB, PlanarConfiguration=None), 'damaged'),
    ],
)  # fmt: skip
def test_refused_by_the_frame(file, reason):
    assert read_header(file, max_pixels=MAX_PIXELS)
    assert reason in refused(frame, file)


def test_padding_after_the_pixels_is_fine():
    assert frame(dicom(GREY, PixelData=bytes(48 + 40))).shape == (4, 6)
    assert frame(dicom(GREY[:1, :1].astype(np.uint8))).shape == (1, 1)


def test_not_a_number():
    file = dicom(GREY, RescaleSlope='1.5', RescaleIntercept='-1024')
    for broken in (b'nan', b'inf', b'abc'):
        assert refused(frame, file.replace(b'1.5', broken))


def test_is_dicom():
    assert is_dicom(dicom(GREY)) and not is_dicom(dicom(GREY)[1:]) and not is_dicom(b'DICM')


def test_without_pydicom(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'big_ssl\[dicom\]'"):
        read_header(dicom(GREY), max_pixels=24)


BROKEN = ('MR_small.dcm', 'MR_small_implicit.dcm', 'MR_small_RLE.dcm', 'MR_small_jp2klossless.dcm',
          'SC_rgb_jpeg_dcmtk.dcm', 'SC_rgb_small_odd.dcm', 'examples_palette.dcm')  # fmt: skip
BYTE = st.tuples(st.floats(0, 1), st.integers(0, 255))


@given(
    name=st.sampled_from(BROKEN),
    changes=st.lists(BYTE, max_size=6),
    early=st.booleans(),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
    window=st.sampled_from(
        [None, Window('minmax'), Window('full'), Window('values', -100.0, 500.0)]
    ),
)
@settings(max_examples=500, deadline=None)
def test_damaged_files_are_refused_or_read(name, changes, early, kept, window):
    data = bytearray(shipped(name))
    for place, byte in changes:
        data[int(place * (min(len(data), 2500) - 1 if early else len(data) - 1))] = byte
    data = bytes(data[: int(kept * len(data))])
    try:
        header = read_header(data, max_pixels=10**6)
        levels = read_frame(data, 0, window, max_pixels=10**6)
    except ValueError as error:
        assert str(error) and '\n' not in str(error)
        return
    assert levels.dtype == np.uint8
    assert levels.shape == (header.rows, header.columns, 3)[: 2 + header.channels // 3]


@pytest.mark.parametrize('syntax', [EXPLICIT, IMPLICIT])
def test_nothing_personal_is_said(syntax, caplog, capfd):
    """Not in messages, logs or warnings, whichever byte of the file is damaged."""
    caplog.set_level(logging.DEBUG)
    stored = np.arange(24, dtype=np.uint16).reshape(4, 6)
    file = dicom(
        stored, syntax, WindowCenter='5', WindowWidth='10', RescaleSlope='1', RescaleIntercept='0'
    )
    assert all(value.encode() in file for value in PERSONAL.values())
    rng, said = np.random.default_rng(0), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for place in range(132, len(file)):
            data = file[:place] + bytes([rng.integers(256)]) + file[place + 1 :]
            for broken in (data, file[:place]):
                try:
                    frame(broken)
                except ValueError as error:
                    said.append(f'{error} {error.__cause__}')
    assert said and not caught
    said = '\n'.join([*said, caplog.text, *capfd.readouterr()])
    assert not any(part in said for value in PERSONAL.values() for part in value.split('^'))


def test_another_number_of_frames_in_the_table():
    codestreams = [grey_jpeg(value) for value in (10, 120, 250)]
    assert 'another number in its offset table' in refused(frame, film(codestreams, 2))
    assert refused(frame, film(codestreams[:2]))


@pytest.mark.parametrize('size', [(40, 32), (32, 41), (320, 400)])
def test_a_codestream_of_another_size(size):
    file = film([grey_jpeg(9, size)] * 3)
    assert read_header(file, max_pixels=MAX_PIXELS).frames == 3
    assert 'of another size than its header says' in refused(frame, file)


def test_a_codestream_of_other_colours():
    grey = dicom(np.zeros((32, 40), np.uint8), JPEG, codestreams=[grey_jpeg(9)])
    assert (frame(grey, Window('full')) == 9).all()
    colour = dicom(np.zeros((32, 40, 3), np.uint8), JPEG, codestreams=[grey_jpeg(9)])
    assert 'of another size' in refused(frame, colour)
    assert 'another size' in refused(frame, shipped('JPEG2000-embedded-sequence-delimiter.dcm'))


def test_pixels_in_another_syntax_than_the_files():
    pixels = np.zeros((32, 40), np.uint8)
    uids = [f'{uid}\0'.encode() for uid in (EXPLICIT, RLE)]
    uncompressed = dicom(pixels).replace(*uids)
    compressed = dicom(pixels, RLE, codestreams=[bytes(2000)]).replace(*uids[::-1])
    for file in (uncompressed, compressed):
        assert 'not in its transfer syntax' in refused(frame, file)


def test_values_beyond_the_bits_stored(tmp_path):
    pixels = np.full((8, 10), 5000, np.uint16)
    for syntax in ('JPEG2000Lossless', 'JPEGLSLossless'):
        data = encoded(tmp_path, dicom(pixels), syntax, BitsStored=12, HighBit=11)
        assert 'more than its 12 bits' in refused(frame, data)
        eight = {'BitsAllocated': 8, 'BitsStored': 8, 'HighBit': 7}
        data = encoded(tmp_path, dicom(pixels), syntax, **eight)
        assert 'another size than its header' in refused(frame, data)


@pytest.mark.parametrize(
    ('name', 'plugin'), [('examples_jpeg2k.dcm', 'pillow'), ('SC_rgb_rle.dcm', 'pydicom')]
)
def test_only_safe_decoders_and_what_they_say_of_colours(monkeypatch, name, plugin):
    class Decoder:
        def as_array(self, dataset, *, decoding_plugin, **_):
            assert decoding_plugin == plugin
            pixels = np.zeros((dataset.Rows, dataset.Columns, 3), np.uint8)
            return pixels, {'photometric_interpretation': 'YBR_FULL'}

    monkeypatch.setattr('pydicom.pixels.get_decoder', lambda uid: Decoder())
    assert 'its colours are not' in refused(frame, shipped(name))


@pytest.mark.parametrize(
    'name',
    ['MR_small_RLE', 'MR_small_jp2klossless', 'MR_small_jpeg_ls_lossless', 'SC_rgb_jpeg_gdcm',
     'SC_rgb_jls_lossy_line', 'SC_rgb_jpeg_dcmtk', 'examples_jpeg2k', 'examples_ybr_color'],
)  # fmt: skip
def test_cut_short(name):
    """The file, and a frame inside a file that is whole."""
    data = shipped(f'{name}.dcm')
    dataset = pydicom.dcmread(io.BytesIO(data))
    found = get_frame(
        dataset.PixelData, 0, number_of_frames=int(dataset.get('NumberOfFrames') or 1)
    )
    for share in (0.3, 0.6, 0.97):
        assert refused(frame, data[: int(share * len(data))])
        dataset.PixelData = encapsulate([found[: int(share * len(found)) // 2 * 2]])
        dataset['PixelData'].is_undefined_length = True
        dataset.NumberOfFrames = 1
        file = io.BytesIO()
        dataset.save_as(file)
        assert refused(frame, file.getvalue())


@NEEDS_GDCM
@pytest.mark.parametrize(('place', 'byte'), [(19, 0x12), (20, 0x01)])
def test_what_aborts_gdcm_does_not_abort_us(place, byte, capfd):
    data = bytearray(shipped('SC_rgb_jpeg_gdcm.dcm'))
    data[data.index(b'\xff\xc3\x00\x11') + place] = byte
    assert 'does not decode' in refused(frame, bytes(data))
    assert capfd.readouterr() == ('', '')


@NEEDS_GDCM
def test_a_decoder_that_hangs(monkeypatch):
    monkeypatch.setattr(dicom_frames, '_GDCM', 'import time; time.sleep(60)')
    monkeypatch.setattr(dicom_frames, '_GDCM_SECONDS', 0.5)
    assert 'TimeoutExpired' in refused(frame, shipped('SC_rgb_jpeg_gdcm.dcm'))


@NEEDS_GDCM
def test_without_gdcm(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        'importlib.util.find_spec', lambda name: None if name == 'gdcm' else found(name)
    )
    with pytest.raises(InputError, match='needs python-gdcm'):
        read_header(shipped('SC_rgb_jpeg_gdcm.dcm'), max_pixels=MAX_PIXELS)
    assert frame(shipped('MR_small_jp2klossless.dcm')).shape == (64, 64)
