"""Encoded images without what they carry besides the picture: names, places, previews, comments.

What remains decodes to the same pixels. Only an EXIF orientation is kept, in a block of its own.
"""

import re
import struct
import zlib
from collections.abc import Iterator

_MARKER = re.compile(rb'\xff[^\x00\x01\xd0-\xd7\xff]', re.DOTALL)  # others stand within a scan
_EOI, _SOS, _DQT, _DNL, _DRI, _COMMENT = 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE
_APP0, _APP1, _APP14 = 0xE0, 0xE1, 0xEE
_NEEDED = frozenset((*range(0xC0, 0xD0), _SOS, _DQT, _DRI))  # with frame headers and their tables
_LEFT_OUT = frozenset((*range(_APP0, _APP0 + 16), _DNL, _COMMENT))
_JFIF, _ADOBE = (b'JFIF\0', 14), (b'Adobe', 12)  # how they begin, their length (T.871, T.872)
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_KEPT = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')


def strip_jpeg(data: bytes, orientation: int = 1) -> bytes:
    """The first image of a JPEG file, with the segments that it takes to decode it.

    JFIF (without its thumbnail) and Adobe segments say what the colours mean, and stay.

    Args:
      orientation: EXIF's number; other than 1 it is written.

    Raises:
      ValueError: the end is missing, or a segment is damaged or of no known kind.
    """
    block = b'Exif\0\0' + _orientation_block(orientation)
    header = struct.pack('>BBH', 0xFF, _APP1, len(block) + 2) + block
    kept = [b'\xff\xd8', header if orientation != 1 else b'']
    for kind, segment in _segments(data):
        if kind in _NEEDED:
            kept.append(segment)
        elif kind not in _LEFT_OUT:
            raise ValueError(f'damaged: a segment with the marker FF{kind:02X}')
        elif kind == _APP0 and _is(segment, *_JFIF):
            kept.append(b'\xff\xe0\x00\x10' + segment[4:16] + b'\0\0')
        elif kind == _APP14 and _is(segment, *_ADOBE):
            kept.append(b'\xff\xee\x00\x0e' + segment[4:16])
    return b''.join([*kept, b'\xff\xd9'])


def strip_png(data: bytes, orientation: int = 1) -> bytes:
    """A PNG with the chunks that it takes to decode it.

    Args:
      orientation: EXIF's number; other than 1 it is written.

    Raises:
      ValueError: the end is missing.
    """
    kept, at, kind = [_PNG], len(_PNG), b''
    while kind != b'IEND':
        length, kind = int.from_bytes(data[at : at + 4], 'big'), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise ValueError('truncated: the end of the PNG is missing')
        if kind in _PNG_KEPT:
            kept.append(data[at:end])
        if kind == b'IHDR' and orientation != 1:
            block = b'eXIf' + _orientation_block(orientation)
            size, check = len(block) - 4, zlib.crc32(block)
            kept.append(struct.pack('>I', size) + block + struct.pack('>I', check))
        at = end
    return b''.join(kept)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and bytes of each segment before the end of image (ITU-T T.81, B.1.1).

    A scan's coded data goes with its header.
    """
    at = 2
    while True:
        found = _MARKER.search(data, at)
        if found is None:
            raise ValueError('truncated: the end of the JPEG is missing')
        start, kind = found.start(), data[found.start() + 1]
        if kind == _EOI:
            return
        length = int.from_bytes(data[start + 2 : start + 4], 'big')
        if length < 2:  # it counts its own two bytes
            raise ValueError('damaged: a segment of the JPEG without a length')
        at = start + 2 + length
        if kind == _SOS:
            following = _MARKER.search(data, at)
            at = following.start() if following else len(data)
        yield kind, data[start:at]


def _is(segment: bytes, beginning: bytes, length: int) -> bool:
    return segment.startswith(beginning, 4) and len(segment) >= 4 + length


def _orientation_block(orientation: int) -> bytes:
    """A TIFF header and a directory with the one tag 0x0112 (Exif 3.0, section 4.6.5.1.6)."""
    entry = struct.pack('>HHIHH', 0x0112, 3, 1, orientation, 0)
    return b'MM\0*' + struct.pack('>IH', 8, 1) + entry + struct.pack('>I', 0)
