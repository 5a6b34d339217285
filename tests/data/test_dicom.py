import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pydicom = pytest.importorskip('pydicom', reason='DICOM files need pydicom')

from pydicom.dataset import Dataset  # noqa: E402

from big_ssl.data.dicom import read_header  # noqa: E402
from big_ssl.data.windows import Window  # noqa: E402
from tests.data.dicom_files import (  # noqa: E402
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    dicom,
    frame,
    lookup_table,
    palette,
    refused,
)

UNCOMPRESSED = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)
MINMAX, FULL = Window('minmax'), Window('full')


def line(*values, dtype=np.uint16):
    return np.array([values], dtype)


def standard_window(x, centre, width, function='LINEAR'):
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, y from 0 to 255, not rounded."""
    c, w = centre, width
    if function == 'SIGMOID':
        return 255 / (1 + math.exp(min(-4 * (x - c) / w, 700)))
    if function == 'LINEAR_EXACT':
        if x <= c - w / 2:
            return 0
        return 255 if x > c + w / 2 else ((x - c) / w + 0.5) * 255
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    return 255 if x > c - 0.5 + (w - 1) / 2 else ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


@given(
    st.lists(st.integers(-500, 3500), min_size=2, max_size=30),
    st.floats(-1000, 3000).map(lambda x: round(x, 1)),
    st.integers(1, 4000),
    st.sampled_from(['LINEAR', 'LINEAR_EXACT', 'SIGMOID', None]),
)
@settings(max_examples=60, deadline=None)
def test_the_files_window_is_that_of_the_standard(stored, centre, width, function):
    file = dicom(line(*stored, dtype=np.int16), WindowCenter=centre, WindowWidth=width,
                 VOILUTFunction=function)  # fmt: skip
    levels = frame(file)[0].astype(int)
    expected = [standard_window(x, centre, width, function or 'LINEAR') for x in stored]
    assert np.abs(levels - expected).max() <= 0.5 + 1e-6
    assert (np.diff(levels[np.argsort(stored, kind='stable')]) >= 0).all()


def test_linear_window_by_hand():
    # w = 5, c = 10: black to 7.5, white from 11.5; 8 is (8 - 9.5) / 4 + 0.5 of 255 = 31.875
    pixels = line(0, 7, 8, 9, 10, 11, 12, 4095)
    levels = frame(dicom(pixels, WindowCenter='10', WindowWidth='5', BitsStored=12))
    assert levels.tolist() == [[0, 0, 32, 96, 159, 223, 255, 255]]


def test_width_one_is_a_threshold():
    file = dicom(line(0, 9, 10, 11), WindowCenter='10', WindowWidth='1')
    assert frame(file).tolist() == [[0, 0, 255, 255]]


def test_the_first_of_several_windows():
    file = dicom(line(0, 50, 100, 200), WindowCenter=['50.5', '100'], WindowWidth=['101', '50'])
    assert frame(file).tolist() == [[0, 128, 255, 255]]


@pytest.mark.parametrize('syntax', UNCOMPRESSED)
def test_hounsfield_units(syntax):
    stored = line(-24, 0, 24, 624, 1424, 1425, -2000, 32767, dtype=np.int16)
    file = dicom(stored, syntax, RescaleSlope='1', RescaleIntercept='-1024',
                 WindowCenter='40', WindowWidth='80')  # fmt: skip
    expected = [(hu + 1000) / 1400 * 255 for hu in (-1048, -1024, -1000, -400, 400)]
    levels = frame(file, Window('values', -1000.0, 400.0))[0]
    assert levels[:5].tolist() == [0, 0, 0, round(expected[3]), 255]
    assert levels[5:].tolist() == [255, 0, 255]
    assert levels.dtype == np.uint8


def test_a_slope_that_is_not_whole_and_one_below_zero():
    stored = line(0, 1, 2, 3, 4)
    file = dicom(stored, RescaleSlope='0.25', RescaleIntercept='-0.5')
    assert frame(file, Window('values', -0.5, 0.5)).tolist() == [[0, 64, 128, 191, 255]]
    file = dicom(stored, RescaleSlope='-1', RescaleIntercept='10')
    assert frame(file, MINMAX).tolist() == [[255, 191, 128, 64, 0]]


def test_without_a_window_of_its_own_the_frames_smallest_and_largest():
    assert frame(dicom(line(100, 151, 355))).tolist() == [[0, 51, 255]]
    assert frame(dicom(line(7, 7))).tolist() == [[0, 0]]


def test_minmax_in_place_of_its_own_window():
    file = dicom(line(100, 151, 355), WindowCenter='1', WindowWidth='2')
    assert frame(file).tolist() == [[255, 255, 255]]
    assert frame(file, MINMAX).tolist() == [[0, 51, 255]]


@pytest.mark.parametrize(
    ('attributes', 'dtype', 'stored', 'expected'),
    [
        ({}, np.uint8, (0, 1, 255), (0, 1, 255)),
        ({}, np.uint16, (0, 257, 65535), (0, 1, 255)),
        ({}, np.int16, (-32768, -32511, 32767), (0, 1, 255)),
        ({'BitsStored': 12}, np.uint16, (0, 819, 4095), (0, 51, 255)),
        ({'BitsStored': 12}, np.int16, (-2048, -1229, 2047), (0, 51, 255)),
        ({'RescaleSlope': '-2', 'RescaleIntercept': '5'}, np.uint8, (0, 51, 255), (255, 204, 0)),
    ],
)
def test_full_is_what_the_stored_bits_can_be(attributes, dtype, stored, expected):
    file = dicom(line(*stored, dtype=dtype), **attributes)
    assert frame(file, FULL)[0].tolist() == list(expected)


@pytest.mark.parametrize('dtype', [np.uint16, np.int16])
def test_bits_that_are_not_in_use_can_be_anything(dtype):
    clean = np.arange(-2048, 2048, 13) if dtype == np.int16 else np.arange(0, 4096, 13)
    junk = (clean & 0xFFF) | (np.arange(len(clean)) % 16 << 12)
    expected = frame(dicom(line(*clean, dtype=dtype), BitsStored=12), FULL)
    file = dicom(junk.astype(np.uint16)[None], BitsStored=12,
                 PixelRepresentation=int(dtype == np.int16))  # fmt: skip
    assert np.array_equal(frame(file, FULL), expected)


@pytest.mark.parametrize('syntax', UNCOMPRESSED)
@pytest.mark.parametrize('vr', ['US', 'OW'])
def test_modality_lookup_table(syntax, vr):
    order = '>' if syntax == BIG_ENDIAN else '<'
    table = lookup_table(-2, [1000, 0, 65535, 257, 514], 16, vr, order)
    stored = line(-30, -2, -1, 0, 1, 2, 3, dtype=np.int16)
    file = dicom(stored, syntax, ModalityLUTSequence=[table])
    assert frame(file, FULL)[0].tolist() == [4, 4, 0, 255, 1, 2, 2]
    assert frame(file, Window('values', 257.0, 512.0))[0].tolist() == [
        255,
        255,
        0,
        255,
        0,
        255,
        255,
    ]


@pytest.mark.parametrize('entries', [[10, 20, 30, 255], [10, 20, 255]])
def test_lookup_table_of_8_bits_in_words_or_packed(entries):
    for vr in ('US', 'OW'):
        file = dicom(line(0, 1, 2, 9), ModalityLUTSequence=[lookup_table(0, entries, 8, vr)])
        expected = [*entries[:3], entries[-1]]
        assert frame(file, FULL)[0].tolist() == expected


def test_lookup_table_of_65536_entries():
    entries = np.arange(65536)[::-1]
    file = dicom(line(0, 257, 65535), VOILUTSequence=[lookup_table(0, entries, 16, 'OW')])
    assert frame(file)[0].tolist() == [255, 254, 0]


def test_voi_lookup_table_goes_before_the_window():
    table = lookup_table(100, [0, 512, 1020, 256], 10)
    file = dicom(line(0, 100, 101, 102, 103, 999), VOILUTSequence=[table],
                 WindowCenter='2', WindowWidth='3')  # fmt: skip
    # of 1023, the largest that 10 bits can be, and not of the largest in the table or the frame
    assert frame(file)[0].tolist() == [0, 0, 128, 254, 64, 64]
    assert frame(dicom(line(100, 101), VOILUTSequence=[table]))[0].tolist() == [0, 128]
    assert frame(file, MINMAX)[0].tolist() == [0, 26, 26, 26, 26, 255]


def test_voi_lookup_table_of_values_that_are_not_whole():
    table = lookup_table(0, [0, 51, 102, 153], 8)
    file = dicom(line(0, 1, 2, 3), VOILUTSequence=[table], RescaleSlope='0.6', RescaleIntercept='0')
    assert frame(file)[0].tolist() == [0, 51, 51, 102]  # of 0, 0.6, 1.2 and 1.8


@pytest.mark.parametrize('syntax', [EXPLICIT, IMPLICIT])
def test_voi_lookup_table_of_negative_values(syntax):
    """Its first value is -1000, although pixels are unsigned: the rescaled values are signed."""
    table = lookup_table(65536 - 1000, [0, 65535], 16)
    file = dicom(line(0, 24, 25), syntax, VOILUTSequence=[table],
                 RescaleSlope='1', RescaleIntercept='-1024')  # fmt: skip
    assert frame(file)[0].tolist() == [0, 0, 255]
    unsigned = dicom(line(0, 64536, 64537), syntax, VOILUTSequence=[table])
    assert frame(unsigned)[0].tolist() == [0, 0, 255]


def test_monochrome1_is_turned_round():
    stored = line(0, 51, 255, dtype=np.uint8)
    for shape in (None, 'INVERSE'):
        file = dicom(stored, PhotometricInterpretation='MONOCHROME1', PresentationLUTShape=shape)
        assert [frame(file, w)[0].tolist() for w in (None, FULL)] == [[255, 204, 0]] * 2
    assert frame(dicom(stored, PresentationLUTShape='IDENTITY'))[0].tolist() == [0, 51, 255]


@pytest.mark.parametrize('kind', ['MONOCHROME1', 'MONOCHROME2'])
def test_padding_is_black_and_does_not_count(kind):
    stored, turned = line(-2000, -1999, 100, 151, 355, dtype=np.int16), kind == 'MONOCHROME1'
    expected = [255, 204, 0] if turned else [0, 51, 255]
    for value in (-2000, 65536 - 2000):  # the latter written as an unsigned number
        one = dicom(stored, PhotometricInterpretation=kind, PixelPaddingValue=value)
        ends = {'PixelPaddingValue': value, 'PixelPaddingRangeLimit': value + 1}
        range_ = dicom(stored, PhotometricInterpretation=kind, **ends)
        assert frame(one)[0, 0] == 0 and frame(one)[0, 1] == (255 if turned else 0)
        assert frame(range_)[0].tolist() == [0, 0, *expected]
    assert not frame(dicom(stored[:, :1], PixelPaddingValue=-2000)).any()


def test_padding_range_the_other_way_round_and_above():
    stored = line(100, 151, 355, 4000, 4095)
    file = dicom(stored, BitsStored=12, PhotometricInterpretation='MONOCHROME1',
                 PixelPaddingValue=4095, PixelPaddingRangeLimit=4000)  # fmt: skip
    assert frame(file)[0].tolist() == [255, 204, 0, 0, 0]


def test_padding_that_fills_the_bits_that_are_not_in_use():
    """-2000 in 16 bits of which 12 are in use would else be a value amid the others."""
    file = dicom(line(65536 - 2000, 100, 151, 355), BitsStored=12, PixelPaddingValue=65536 - 2000)
    assert frame(file)[0].tolist() == [0, 0, 51, 255]


def test_padding_below_bits_that_are_not_in_use():
    file = dicom(line(4095 + 0x3000, 100, 151, 355), BitsStored=12, PixelPaddingValue=4095)
    assert frame(file)[0].tolist() == [0, 0, 51, 255]


@pytest.mark.parametrize('syntax', UNCOMPRESSED)
def test_colour_by_pixel_and_by_plane(syntax):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    assert np.array_equal(frame(dicom(rgb, syntax)), rgb)
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1)).tobytes()
    file = dicom(rgb, syntax, PlanarConfiguration=1, PixelData=planes)
    assert np.array_equal(frame(file, MINMAX), rgb)


def rgb_of(ybr):
    """PS3.3 C.7.6.3.1.2."""
    y, b, r = (float(part) for part in ybr)
    b, r = b - 128, r - 128
    return [y + 1.402 * r, y - 0.114 * 1.772 / 0.587 * b - 0.299 * 1.402 / 0.587 * r, y + 1.772 * b]


def test_ybr_full_and_ybr_full_422():
    ybr = np.array([[[76, 85, 255], [150, 44, 21]], [[29, 255, 107], [128, 128, 128]]], np.uint8)
    expected = np.clip([[rgb_of(pixel) for pixel in row] for row in ybr], 0, 255)
    levels = frame(dicom(ybr, PhotometricInterpretation='YBR_FULL'))
    assert np.abs(levels - expected).max() <= 1
    halved = bytes([76, 150, 85, 255, 29, 128, 255, 107])  # Y1 Y2 B R
    pairs = [[(76, 85, 255), (150, 85, 255)], [(29, 255, 107), (128, 255, 107)]]
    expected = np.clip([[rgb_of(pixel) for pixel in row] for row in pairs], 0, 255)
    file = dicom(ybr, PhotometricInterpretation='YBR_FULL_422', PixelData=halved)
    assert np.abs(frame(file).astype(int) - expected).max() <= 1


def test_palette_of_8_and_16_bits():
    stored = line(0, 5, 6, 7, 8, 9, dtype=np.uint8)
    tables = [10, 20, 30, 40], [0, 255, 0, 1], [7, 7, 7, 7]
    expected = [[10, 0, 7], [10, 0, 7], [20, 255, 7], [30, 0, 7], [40, 1, 7], [40, 1, 7]]
    assert frame(dicom(stored, **palette(8, tables, first=5)))[0].tolist() == expected
    for scale in (256, 257):  # both are in use
        wide = [[entry * scale for entry in table] for table in tables]
        assert frame(dicom(stored, **palette(16, wide, first=5)))[0].tolist() == expected


def test_palette_of_more_than_256_entries_of_8_bits():
    tables = [np.arange(600) // 3, np.arange(600) % 256, np.zeros(600)]
    assert frame(dicom(line(0, 299, 599), **palette(8, tables)))[0].tolist() == [
        [0, 0, 0], [99, 43, 0], [199, 87, 0],
    ]  # fmt: skip


def test_a_frame_of_several():
    stored = np.arange(24, dtype=np.uint16).reshape(3, 2, 4) ** 2
    file = dicom(stored, frames=3)
    assert read_header(file, max_pixels=24).frames == 3
    for index in range(3):
        scaled = (stored[index] - stored[index].min()) / np.ptp(stored[index]) * 255
        assert np.abs(frame(file, index=index) - scaled).max() <= 0.5
    for index in (-1, 3):
        assert 'it has 3' in refused(frame, file, index=index)


def group(**parts):
    item = Dataset()
    for name, attributes in parts.items():
        inner = Dataset()
        for keyword, value in attributes.items():
            setattr(inner, keyword, value)
        setattr(item, name, [inner])
    return item


def test_enhanced_objects_say_it_for_each_frame():
    shared = group(FrameVOILUTSequence={'WindowCenter': '1', 'WindowWidth': '256'})
    own = [
        group(PixelValueTransformationSequence={'RescaleSlope': slope, 'RescaleIntercept': '-127'})
        for slope in ('1', '2')
    ]
    stored = np.array([[[0, 51, 127, 254]]] * 2, np.uint8)
    groups = {'SharedFunctionalGroupsSequence': [shared]}
    file = dicom(stored, frames=2, PerFrameFunctionalGroupsSequence=own, **groups)
    assert frame(file, index=0)[0].tolist() == [0, 51, 127, 254]
    assert frame(file, index=1)[0].tolist() == [0, 102, 254, 255]
    file = dicom(stored, frames=2, PerFrameFunctionalGroupsSequence=own[:1], **groups)
    assert 'functional groups' in refused(frame, file)
