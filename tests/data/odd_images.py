"""JPEG and PNG files out of the ordinary, what they show, and which of them are refused.

PNGs are put together by hand, chunk by chunk; what an image shows comes from NumPy alone.
"""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.helpers import sixteen_bit_rgb_png, smooth

PIXELS = smooth(21, 34)
GREY, OTHER = PIXELS[..., 0], smooth(21, 34, seed=1)
DEEP = GREY.astype(np.uint16) * 257  # whose levels of the full range are GREY
ALPHA = np.broadcast_to(np.arange(34, dtype=np.uint8) * 7, (21, 34))


class Shown(NamedTuple):
    """A file that is read.

    Attributes:
      data: the file.
      turn: EXIF's number, as it has to be understood.
      stored: uint8 [h, w, 3] that it shows where nothing turns it; None: as the JPEG decodes.
    """

    data: bytes
    turn: int
    stored: np.ndarray | None = PIXELS


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(
    pixels: np.ndarray = PIXELS,
    *,
    before: bytes = b'',
    behind: bytes = b'',
    colour: int = 2,
    bits: int = 8,
    width: int = 34,
    pieces: int = 1,
    end: bytes = chunk(b'IEND', b''),
) -> bytes:
    """A PNG with chunks before and behind its pixels, which are in so many chunks.

    Args:
      pixels: [h, bytes or 16-bit values of a line].
    """
    lines = pixels.reshape(len(pixels), -1)
    lines = lines.astype(lines.dtype.newbyteorder('>'))
    data = zlib.compress(b''.join(b'\0' + line.tobytes() for line in lines))
    size = -(-len(data) // pieces)
    parts = (chunk(b'IDAT', data[i : i + size]) for i in range(0, len(data), size))
    header = struct.pack('>IIBBBBB', width, len(pixels), bits, colour, 0, 0, 0)
    start = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
    return b''.join([start, before, *parts, behind, end])


def directory(turn: object, *, kind: int = 3, tag: int = 0x0112) -> bytes:
    """EXIF with one tag; an orientation of 16 bits unless told otherwise."""
    value = {2: b'%d\0\0\0', 3: struct.pack('>HH', turn, 0), 4: struct.pack('>I', turn)}[kind]
    value = value % turn if kind == 2 else value
    length = 2 if kind == 2 else 1
    return b'MM\0*' + struct.pack('>IHHHI', 8, 1, tag, kind, length) + value + bytes(4)


def exif(turn: int, **options: int) -> bytes:
    return chunk(b'eXIf', directory(turn, **options))


def xmp(turn: object, form: str = 'tiff:Orientation="{}"', *, compressed: bool = False) -> bytes:
    text = f'<x:xmpmeta><rdf:Description {form.format(turn)}/></x:xmpmeta>'.encode()
    content = b'\1\0\0\0' + zlib.compress(text) if compressed else b'\0\0\0\0' + text
    return chunk(b'iTXt', b'XML:com.adobe.xmp\0' + content)


def raw_profile(content: bytes, kind: bytes = b'zTXt') -> bytes:
    text = b'\nexif\n%8d\n%s\n' % (len(content), content)
    packed = b'\0' + zlib.compress(text) if kind == b'zTXt' else text
    return chunk(kind, b'Raw profile type exif\0' + packed)


RAW_6 = raw_profile((b'Exif\0\0' + directory(6)).hex().encode())
ELEMENT = '><tiff:Orientation>{}</tiff:Orientation'
BOMB = chunk(b'zTXt', b'Comment\0\0' + zlib.compress(b'x' * 3_000_000))


def encoded(image: Image.Image, form: str = 'JPEG', **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    return encoded(Image.fromarray(pixels), quality=92, **options)


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1)


BIT = np.packbits(GREY > 128, axis=1)
PALETTE = chunk(b'PLTE', bytes(range(48))) + chunk(b'tRNS', bytes(range(0, 160, 10)))
INDICES = GREY // 16
IN_PALETTE = np.arange(48, dtype=np.uint8).reshape(16, 3)[INDICES]
JPEG_EXIF_6, JPEG_XMP_6 = b'Exif\0\0' + directory(6), b'<a tiff:Orientation="6"/>'
PREVIEW = {'save_all': True, 'append_images': [Image.fromarray(OTHER)]}
RATIONAL_6 = b'MM\0*' + struct.pack('>IHHHIIIII', 8, 1, 0x0112, 5, 1, 26, 0, 6, 1)
ONE_FRAME = chunk(b'acTL', struct.pack('>II', 1, 0)) + chunk(
    b'fcTL', struct.pack('>IIIIIHHBB', 0, 34, 21, 0, 0, 1, 10, 0, 0)
)
DAMAGED = b'II*\0\xff\xff\xff\x7f'

SHOWN = {
    'plain.png': Shown(png(), 1),
    **{f'exif {n}.png': Shown(png(before=exif(n)), n) for n in range(1, 9)},
    **{f'exif behind {n}.png': Shown(png(behind=exif(n)), n) for n in range(2, 9)},
    **{f'xmp {n}.png': Shown(png(before=xmp(n)), n) for n in range(2, 9)},
    'xmp behind.png': Shown(png(behind=xmp(6)), 6),
    'xmp element.png': Shown(png(before=xmp(6, ELEMENT)), 6),
    'xmp compressed.png': Shown(png(behind=xmp(6, compressed=True)), 6),
    'raw profile.png': Shown(png(before=RAW_6), 6),
    'raw profile behind.png': Shown(png(behind=RAW_6), 6),
    'raw profile not compressed.png': Shown(
        png(before=raw_profile((b'Exif\0\0' + directory(8)).hex().encode(), b'tEXt')), 8
    ),
    'exif before xmp.png': Shown(png(before=xmp(6) + exif(3)), 3),
    'xmp before exif behind.png': Shown(png(before=xmp(6), behind=exif(3)), 3),
    'exif of something else, xmp.png': Shown(png(before=exif(6, tag=0x0128) + xmp(8)), 8),
    'many chunks.png': Shown(png(pieces=50, behind=exif(6)), 6),
    'a comment alone.png': Shown(png(before=chunk(b'tEXt', b'Comment\0tiff:Orientation="6"')), 1),
    'orientation 0.png': Shown(png(before=exif(0)), 1),
    'orientation 9.jpg': Shown(jpeg(exif=b'Exif\0\0' + directory(9)), 1, None),
    'xmp 9.png': Shown(png(behind=xmp(9)), 1),
    'a long number.png': Shown(png(before=exif(6, kind=4)), 6),
    'a text.png': Shown(png(before=exif(6, kind=2)), 1),
    'damaged exif.png': Shown(png(before=chunk(b'eXIf', DAMAGED)), 1),
    'damaged exif behind.png': Shown(png(behind=chunk(b'eXIf', b'nothing')), 1),
    'damaged raw profile.png': Shown(png(before=raw_profile(b'not hexadecimal')), 1),
    'damaged exif.jpg': Shown(jpeg(exif=b'Exif\0\0' + DAMAGED), 1, None),
    'exif.jpg': Shown(jpeg(exif=JPEG_EXIF_6), 6, None),
    'xmp.jpg': Shown(jpeg(xmp=JPEG_XMP_6), 6, None),
    'progressive, grey.jpg': Shown(jpeg(GREY, progressive=True, exif=JPEG_EXIF_6), 6, None),
    'with a preview.jpg': Shown(
        encoded(Image.fromarray(PIXELS), 'MPO', exif=JPEG_EXIF_6, **PREVIEW), 6, None
    ),
    'a PNG.jpg': Shown(png(before=xmp(6)), 6),
    'a JPEG.PNG': Shown(jpeg(exif=JPEG_EXIF_6), 6, None),
    'grey.png': Shown(png(GREY, colour=0, behind=exif(6)), 6, grey(GREY)),
    '16 bits.png': Shown(png(DEEP, colour=0, bits=16, behind=exif(6)), 6, grey(GREY)),
    '16 bits, xmp.png': Shown(png(DEEP, colour=0, bits=16, before=xmp(8)), 8, grey(GREY)),
    '1 bit.png': Shown(
        png(BIT, colour=0, bits=1, behind=exif(6)), 6, grey((GREY > 128) * np.uint8(255))
    ),
    'palette.png': Shown(png(INDICES, colour=3, before=PALETTE + xmp(6)), 6, IN_PALETTE),
    'grey, alpha.png': Shown(
        png(np.dstack([GREY, ALPHA]), colour=4, before=RAW_6), 6, grey(GREY)
    ),
    'alpha.png': Shown(png(np.dstack([PIXELS, ALPHA]), colour=6, behind=exif(6)), 6),
    'one colour transparent.png': Shown(
        png(before=chunk(b'tRNS', struct.pack('>HHH', 1, 2, 3)), behind=exif(6)), 6
    ),
    'one level transparent, 16 bits.png': Shown(
        png(DEEP, colour=0, bits=16, before=chunk(b'tRNS', b'\3\xe8')), 1, grey(GREY)
    ),
    'exif twice.png': Shown(png(before=exif(3), behind=exif(6)), 6),
    'a wrong checksum behind.png': Shown(png(behind=exif(6)[:-1] + b'\0'), 6),
    'a rational number.png': Shown(png(before=chunk(b'eXIf', RATIONAL_6)), 6),
    'another alphabet.png': Shown(png(behind=chunk(b'iTXt', b'k\0\0\0\xff\0\0a') + exif(6)), 6),
    'more behind the end.png': Shown(png() + exif(6), 1),
    'one frame.png': Shown(png(before=ONE_FRAME, behind=xmp(6)), 6),
    'exif damaged, xmp.png': Shown(png(before=chunk(b'eXIf', b'nothing') + xmp(6)), 1),
    'more behind the end.jpg': Shown(jpeg(exif=JPEG_EXIF_6) + b'more', 6, None),
}  # fmt: skip

BY_PILLOW = {  # whose end is missing or behind whose pixels is nonsense: others refuse them
    'no end.png': Shown(png(end=b''), 1),
    'exif behind, no end.png': Shown(png(behind=exif(6), end=b''), 6),
    'half an end.png': Shown(png(before=xmp(6))[:-4], 6),
    'no checksum.png': Shown(png(before=RAW_6, end=b'')[:-4], 6),
    'a kind of digits.png': Shown(png(behind=chunk(b'a1_Z', b'') + exif(6)), 6),
    'no kind behind.png': Shown(png(behind=b'\0\0\0\0\1\2\3\4more' + exif(6)), 1),
}

REFUSED = {
    'CMYK.jpg': encoded(Image.fromarray(PIXELS).convert('CMYK')),
    '16 bits in colour.png': sixteen_bit_rgb_png(PIXELS.astype(np.uint16) * 257),
    '16 bits and alpha.png': png(np.dstack([DEEP, DEEP]), colour=4, bits=16, before=exif(6)),
    'moving.png': encoded(Image.fromarray(PIXELS), 'PNG', **PREVIEW),
    'a GIF.png': encoded(Image.fromarray(GREY), 'GIF'),
    'a TIFF.png': encoded(Image.fromarray(PIXELS), 'TIFF'),
    'a BMP.jpg': encoded(Image.fromarray(PIXELS), 'BMP'),
    'a WebP.jpg': encoded(Image.fromarray(PIXELS), 'WEBP'),
    'cut.jpg': jpeg()[:-60],
    'cut.png': png()[:-90],
    'cut behind the pixels.png': png(behind=exif(6), end=b'')[:-8],
    'a wrong checksum.png': png(before=exif(6)[:-1] + b'\0'),
    'two frames.png': png(before=chunk(b'acTL', struct.pack('>II', 1, 0)), behind=exif(6)),
    'empty.jpg': b'',
    'text.png': b'not an image',
    'a large text.png': png(before=BOMB),
    'a large text behind.png': png(behind=BOMB),
    'an unknown compression behind.png': png(behind=chunk(b'zTXt', b'Comment\0\7')),
}
