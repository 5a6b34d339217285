"""Which way up an encoded image is: as EXIF says or, where that says nothing, XMP.

Viewers turn an image by them, and so does Pillow's `ImageOps.exif_transpose`, whose rules these
are; but EXIF that cannot be read refuses no image here.
"""

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {  # what makes an image upright, by EXIF's number (Exif 3.0, section 4.6.5.1.6)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_METADATA = (b'eXIf', b'tEXt', b'zTXt', b'iTXt')  # texts hold XMP and raw EXIF profiles
_KIND = re.compile(rb'\w{4}')  # where Pillow goes on


def turned(image: Image.Image) -> Image.Image:
    """A decoded image, upright."""
    turn = _number(image)
    return image if turn == 1 else image.transpose(_TURNS[turn])


def undecoded(image: Image.Image) -> int:
    """EXIF's number, 1 (upright) to 8, of an image whose pixels have not been decoded.

    Raises:
      Exception: what stands behind the pixels of a PNG will stop Pillow when it decodes them.
    """
    if not isinstance(image, PngImageFile):
        return _number(image)
    metadata = _of_one_pixel(image)
    if metadata is None:
        return 1
    with Image.open(metadata, formats=('PNG',)) as small:
        small.load()
        return _number(small)


def _number(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever damaged EXIF raises: it says nothing
        return 1
    return int(found) if found in _TURNS else 1


def _of_one_pixel(image: PngImageFile) -> io.BytesIO | None:
    """A PNG of one pixel with the EXIF and texts of `image`; None where there are none.

    They may stand behind the pixels, where Pillow finds them by decoding these.
    """
    assert image.fp is not None  # not decoded yet
    instead = {
        b'IHDR': _chunk(b'IHDR', struct.pack('>IIBBBBB', 1, 1, 8, 0, 0, 0, 0)),
        b'IDAT': _chunk(b'IDAT', zlib.compress(b'\0\0')),
    }
    place, found, kept = image.fp.tell(), False, [b'\x89PNG\r\n\x1a\n']
    for kind, chunk in _chunks(image.fp):
        found |= kind in _METADATA
        kept.append(chunk or instead.pop(kind, b''))
    image.fp.seek(place)
    return io.BytesIO(b''.join([*kept, _chunk(b'IEND', b'')])) if found else None


def _chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk up to IEND (PNG 3.0, section 5.3), and the bytes of `_METADATA`.

    Others are passed over by their length.
    """
    at, end = 8, file.seek(0, os.SEEK_END)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        kind, at = head[4:], at + 12 + int.from_bytes(head[:4], 'big')
        if kind == b'IEND' or not _KIND.match(kind):
            return
        if kind not in _METADATA:
            yield kind, b''
        elif at <= end:
            yield kind, head + file.read(at - file.tell())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
