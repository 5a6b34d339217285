"""What a DICOM file stores: the checked header, and the samples of a frame.

Nearly all that is here guards against pixels that are silently others: a header that contradicts
its pixels, colours that are converted twice, a decoder that takes its process with it.
PS3.3 and PS3.5 are parts of the standard.
"""

import dataclasses
import importlib.util
import io
import struct
import subprocess
import sys
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from PIL import Image

from big_ssl.errors import InputError

SHAPES = {'MONOCHROME1': 'INVERSE', 'MONOCHROME2': 'IDENTITY'}  # Presentation LUT Shape, C.7.6.1
PALETTE = 'PALETTE COLOR'
# Transfer syntaxes (PS3.5 section 10) by decoder, and the colours that go with each (section 8.2).
BIG_ENDIAN = '1.2.840.10008.1.2.2'
NATIVE = ('1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99', BIG_ENDIAN)
JPEG = ('1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.4.51')
JPEG_LOSSLESS = ('1.2.840.10008.1.2.4.57', '1.2.840.10008.1.2.4.70')
JPEG_LS = ('1.2.840.10008.1.2.4.80', '1.2.840.10008.1.2.4.81')
JPEG_2000 = ('1.2.840.10008.1.2.4.90', '1.2.840.10008.1.2.4.91')
RLE = '1.2.840.10008.1.2.5'
COLOURS = {
    **dict.fromkeys((*NATIVE, *JPEG), ('RGB', 'YBR_FULL', 'YBR_FULL_422')),
    **dict.fromkeys((*JPEG_LOSSLESS, *JPEG_LS, RLE), ('RGB', 'YBR_FULL')),
    **dict.fromkeys(JPEG_2000, ('RGB', 'YBR_ICT', 'YBR_RCT')),
}
_SOF = {0xFFF7, *range(0xFFC0, 0xFFD0)} - {0xFFC4, 0xFFC8, 0xFFCC}  # start of a JPEG's frame
# gdcm aborts its process on some damaged frames, so it is given one of its own.
_GDCM_SECONDS = 120
_GDCM = """
import sys, gdcm
syntax, photometric, *numbers = sys.argv[1:]
rows, columns, samples, allocated, stored, signed = map(int, numbers)
fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
fragment.SetByteStringValue(sys.stdin.buffer.read())
fragments.AddFragment(fragment)
element, image = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010)), gdcm.Image()
element.SetValue(fragments.__ref__())
image.SetNumberOfDimensions(2)
image.SetDimensions((columns, rows, 1))
image.SetDataElement(element)
kind = gdcm.PhotometricInterpretation.GetPIType(photometric)
image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, stored, stored - 1, signed))
sys.stdout.buffer.write(image.GetBuffer().encode('utf-8', 'surrogateescape'))
"""


class Refused(ValueError):
    """A message of our own; those of pydicom can repeat a patient's data."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says of its pixels, checked.

    Attributes:
      syntax, photometric: Transfer Syntax UID, Photometric Interpretation (PS3.3 C.7.6.3.1.2).
      rows, columns, frames: 1 or more each.
      samples: of a pixel as stored, 1 or 3.
      allocated, stored, signed: bits of a sample, those in use, and whether in two's complement.
      burned_in: Burned In Annotation is YES; False proves nothing, as it is often absent.
    """

    syntax: str
    photometric: str
    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    burned_in: bool

    @property
    def channels(self) -> int:
        """Of the pixels that `big_ssl.data.dicom.read_frame` gives: 1 or 3."""
        return 1 if self.photometric in SHAPES else 3


def checked_header(dataset: Any, max_pixels: int) -> Header:
    """The header of a pydicom Dataset, with or without pixels.

    Raises:
      Refused: an attribute is missing, or frames as it says are not read here.
      InputError: they need python-gdcm, which is not installed.
    """
    names = ('Rows', 'Columns', 'SamplesPerPixel', 'BitsAllocated', 'BitsStored')
    rows, columns, samples, allocated, stored = (integer(dataset, name) for name in names)
    signed, frames = integer(dataset, 'PixelRepresentation'), dataset.get('NumberOfFrames') or 1
    syntax, colour = _syntax(dataset), str(dataset.get('PhotometricInterpretation'))
    known, shape = (*SHAPES, PALETTE, *COLOURS[syntax]), dataset.get('PresentationLUTShape')
    rgb, size = colour in COLOURS[syntax], f'{rows} x {columns} pixels, {frames} frames'
    checks = (
        (min(rows, columns, frames) > 0, size),
        (rows * columns * frames <= max_pixels, f'{size} are more than {max_pixels:,} pixels'),
        (colour in known, f'Photometric Interpretation is not {", ".join(known)}; convert it'),
        (samples == (3 if rgb else 1), f'{samples} samples a pixel with {colour}'),
        (allocated in (8, 16), f'{allocated} bits allocated; convert it to 8 or 16'),
        (0 < stored <= allocated, f'{stored} bits stored of {allocated}'),
        (dataset.get('HighBit', stored - 1) == stored - 1, f'High Bit is not {stored - 1}'),
        (signed in (0, 1), f'Pixel Representation {signed}'),
        (not rgb or (stored, signed) == (8, 0), 'colour of other than 8 bits; convert it'),
        (syntax not in JPEG or allocated == 8, 'JPEG of more than 8 bits; convert it'),
        (
            shape in (None, '', SHAPES.get(colour, shape)),
            f'Presentation LUT Shape contradicts {colour}; correct one of them',
        ),
    )
    for fine, problem in checks:
        if not fine:
            raise Refused(problem)
    sizes = (rows, columns, int(frames), samples, allocated, stored)
    burned_in = dataset.get('BurnedInAnnotation') == 'YES'
    return Header(syntax, colour, *sizes, signed=bool(signed), burned_in=burned_in)


def integer(dataset: Any, name: str) -> int:
    """An attribute that must be there."""
    value = dataset.get(name)
    if not isinstance(value, int):
        raise Refused(f'no {name}: not an image (a report?), or damaged')
    return value


def _syntax(dataset: Any) -> str:
    from pydicom.uid import UID

    uid = UID(str(dataset.file_meta.get('TransferSyntaxUID', '')))
    if uid not in COLOURS:
        name = 'a private or missing transfer syntax' if uid.name == uid else uid.name
        raise Refused(f'{name} is not decoded here; convert it to Explicit VR Little Endian')
    if uid in (*JPEG_LOSSLESS, *JPEG_LS) and importlib.util.find_spec('gdcm') is None:
        raise InputError(f"{uid.name} needs python-gdcm: pip install 'big_ssl[dicom]'")
    return str(uid)


def read_samples(
    dataset: Any, header: Header, frame: int
) -> Int[np.ndarray, 'h w'] | UInt8[np.ndarray, 'h w 3']:
    """One frame: RGB, or for each pixel all its allocated bits as a number from 0.

    Raises:
      Refused: the frame is not all there, or is not what the header says.
    """
    if not dataset.get('PixelData'):
        raise Refused('no pixel data: removed, or the file is cut short')
    if dataset['PixelData'].is_undefined_length == (header.syntax in NATIVE):
        raise Refused('its pixel data is not in its transfer syntax')
    pixels = _decoded(dataset, header, frame)
    if header.samples == 3:
        return np.ascontiguousarray(pixels, np.uint8)
    patterns = pixels.astype(np.int32) & (2**header.allocated - 1)
    # Bits that are not in use can hold overlays (PS3.5 8.1.1), but these codecs know their own.
    exact = header.syntax in (*JPEG_LS, *JPEG_2000)
    if exact and (numbers(patterns, header, header.stored) != pixels).any():
        raise Refused(f'values of more than its {header.stored} bits stored')
    return patterns


def numbers(patterns: Int[np.ndarray, '*s'], header: Header, bits: int) -> Int[np.ndarray, '*s']:
    """What the lowest bits of each pattern stand for."""
    values = patterns & (2**bits - 1)
    return np.where(values >= 2**bits // 2, values - 2**bits, values) if header.signed else values


def _decoded(dataset: Any, header: Header, frame: int) -> Shaped[np.ndarray, 'h w *c']:
    from pydicom.pixels import get_decoder

    options: dict[str, Any] = {'correct_unused_bits': False}
    if header.syntax in NATIVE:
        _check_length(dataset, header)
    else:
        codestream = _codestream(dataset, header, frame)
        if header.syntax in JPEG:
            return _jpeg(codestream, header)
        if header.syntax in (*JPEG_LOSSLESS, *JPEG_LS):
            return _gdcm(codestream, header)
        options['decoding_plugin'] = 'pydicom' if header.syntax == RLE else 'pillow'
        options['planar_configuration'] = 0
    pixels, found = get_decoder(header.syntax).as_array(dataset, index=frame, **options)
    if header.samples == 3 and found['photometric_interpretation'] != 'RGB':
        raise Refused('its colours are not those that it declares')
    return pixels


def _check_length(dataset: Any, header: Header) -> None:
    """Uncompressed pixels fill their frames, up to some padding (PS3.5 section 8.1.1)."""
    subsampled = header.photometric == 'YBR_FULL_422'
    if subsampled and (header.columns % 2 or integer(dataset, 'PlanarConfiguration')):
        raise Refused('YBR_FULL_422 of an odd width, or by plane')
    frame = header.rows * header.columns * header.samples * header.allocated // 8
    frame = frame * 2 // 3 if subsampled else frame
    expected, length = frame * header.frames, len(dataset.PixelData)
    if length < expected:
        raise Refused(f'pixel data is cut short: {length} bytes of {expected}')
    if length - expected - expected % 2 >= frame:
        raise Refused(f'{length} bytes of pixel data where its header says {expected}')


def _codestream(dataset: Any, header: Header, frame: int) -> bytes:
    """The compressed bytes of a frame (PS3.5 A.4), which are of the size that the header says."""
    from pydicom.encaps import get_frame, parse_basic_offsets

    data, tables = dataset.PixelData, ('ExtendedOffsetTable', 'ExtendedOffsetTableLengths')
    extended = tuple(dataset[name].value for name in tables if name in dataset)
    if len(parse_basic_offsets(data)) not in (0, header.frames):
        raise Refused(f'{header.frames} frames, but another number in its offset table')
    count = header.frames
    found = get_frame(data, frame, number_of_frames=count, extended_offsets=extended or None)
    if header.syntax != RLE:
        *size, bits = _declared(found)
        if size != [header.rows, header.columns, header.samples] or bits > header.allocated:
            raise Refused('its compressed frame is of another size than its header says')
    return found


def _declared(codestream: bytes) -> tuple[int, int, int, int]:
    """Rows, columns, samples and bits of a JPEG, JPEG-LS (SOF) or JPEG 2000 (SIZ) codestream."""
    if codestream[:4] == b'\xff\x4f\xff\x51':
        right, bottom, left, top = struct.unpack('>4I', codestream[8:24])
        samples, bits = struct.unpack('>HB', codestream[40:43])
        return bottom - top, right - left, samples, bits % 128 + 1
    at, marker, length = 0, 0, 0
    while marker not in _SOF:
        at += 2 + length
        marker, length = struct.unpack('>HH', codestream[at : at + 4])
    bits, rows, columns, samples = struct.unpack('>BHHB', codestream[at + 4 : at + 10])
    return rows, columns, samples, bits


def _jpeg(codestream: bytes, header: Header) -> UInt8[np.ndarray, 'h w *c']:
    """Its own markers say whether it is RGB or YCbCr; where it has none, the header does."""
    image = Image.open(io.BytesIO(codestream), formats=('JPEG',))
    named = [layer[0] for layer in getattr(image, 'layer', ())] == list(b'RGB')
    if (
        header.photometric == 'RGB'
        and not named
        and not {'jfif', 'adobe_transform'} & {*image.info}
    ):
        image.draft('YCbCr', image.size)  # as it is stored: libjpeg would take it for YCbCr
    return np.asarray(image)


def _gdcm(codestream: bytes, header: Header) -> Shaped[np.ndarray, 'h w *c']:
    from pydicom.pixels import convert_color_space

    rows, columns, samples, bits = _declared(codestream)
    allocated, stored = header.allocated, header.stored
    if header.syntax in JPEG_LS:
        allocated, stored = (8 if bits <= 8 else 16), bits
    sizes = (rows, columns, samples, allocated, stored, int(header.signed))
    command = [sys.executable, '-P', '-c', _GDCM, header.syntax, header.photometric]
    done = subprocess.run(
        command + [str(size) for size in sizes],
        input=codestream,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_GDCM_SECONDS,
    )
    kind = np.dtype(f'{"i" if header.signed else "u"}{allocated // 8}')
    if len(done.stdout) != rows * columns * samples * kind.itemsize:
        raise Refused('its compressed frame does not decode: damaged')
    pixels = np.frombuffer(done.stdout, kind).reshape(rows, columns, samples)
    if header.photometric == 'YBR_FULL':
        return convert_color_space(pixels, 'YBR_FULL', 'RGB')
    shift = allocated - stored if header.syntax in JPEG_LS else 0
    return (pixels << shift >> shift).squeeze(2 if samples == 1 else ())
