"""One encoded image, opened by Pillow: its header, what makes it unusable, and its upright pixels.

Everything that could silently become something else (CMYK, animations, 16-bit colour, images of
absurd size) is refused.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from big_ssl.data import orientation
from big_ssl.errors import InputError

JPEG, PNG, PNG16 = range(3)
EIGHT_BIT = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')
GREY = ('1', 'L', 'LA')
SIXTEEN_BIT = ('I;16', 'I;16B', 'I;16L', 'I;16N')


@contextlib.contextmanager
def damage() -> Iterator[None]:
    """Whatever Pillow raises on a damaged file becomes a ValueError, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of large images, and of damaged tags
        try:
            yield
        except (ValueError, InputError):
            raise
        except Exception as error:
            raise ValueError(f'damaged ({type(error).__name__})') from None


@damage()
def open_image(
    file: str | IO[bytes], formats: tuple[str, ...] = ('JPEG', 'PNG'), *, max_pixels: int = 0
) -> Image.Image:
    """A lazily decoded image; the caller closes it.

    Args:
      file: a local path, or the file's bytes.
      formats: Pillow's names.
      max_pixels: more are refused before they are decoded; 0 is Pillow's own limit (179 million).

    Raises:
      ValueError: what is wrong, in a few words.
    """
    try:
        image = Image.open(file, formats=formats)
    except FileNotFoundError:
        raise ValueError(no_such_file(str(file))) from None
    except Image.DecompressionBombError:
        raise ValueError('more pixels than Pillow opens') from None
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        names = ', '.join(formats[:-1]) + f' or {formats[-1]}'
        reason = getattr(error, 'strerror', None) or f'not a {names} image'
        raise ValueError(reason) from None
    if found := _problem(image, max_pixels):
        image.close()
        raise ValueError(found)
    return image


def no_such_file(path: str) -> str:
    """What is wrong with a path under which nothing is; tables made on Windows have backslashes."""
    return 'no such file' + ('; here folders are separated by /, not by \\' if '\\' in path else '')


def _problem(image: Image.Image, max_pixels: int) -> str:
    frames = getattr(image, 'n_frames', 1)
    if frames > 1 and image.format != 'MPO':  # a phone's JPEG with its preview
        return f'{frames} frames; save it as one still image'
    if image.mode not in EIGHT_BIT + SIXTEEN_BIT:
        return f'{image.mode} pixels; convert it to grey or RGB'
    if image.mode in EIGHT_BIT and ';16' in str(getattr(image, 'tile', '')):
        return '16 bits a channel in colour; convert it to 8-bit RGB or 16-bit grey'
    if 0 < max_pixels < image.width * image.height:
        return f'{image.width} x {image.height} pixels are more than {max_pixels:,}'
    return ''


@damage()
def upright(image: Image.Image, mode: str) -> Image.Image:
    """Decoded, turned as EXIF or XMP says, and converted to Pillow's `mode`; 16 bits stay.

    Raises:
      ValueError: it does not decode.
    """
    try:
        image.load()
        whole = orientation.turned(image)
        as_it_is = whole.mode == mode or image.mode in SIXTEEN_BIT  # convert() would copy it
        return whole if as_it_is else whole.convert(mode)
    except (OSError, ValueError, SyntaxError, MemoryError) as error:
        raise ValueError(f'does not decode: {" ".join(str(error).split())}') from None


def is_16_bit(image: Image.Image) -> bool:
    return image.mode in SIXTEEN_BIT


class Header(NamedTuple):
    """What is known without decoding the pixels.

    Attributes:
      format: `JPEG`, `PNG` or `PNG16`.
      height, width: upright.
      orientation: EXIF's number.
      grey: one channel, transparency aside.
    """

    format: int
    height: int
    width: int
    orientation: int
    grey: bool


@damage()
def header(image: Image.Image) -> Header:
    """What is known of an image that has not been decoded.

    Raises:
      ValueError: it would not decode, for what stands behind the pixels.
    """
    png = PNG16 if is_16_bit(image) else PNG
    kind = png if image.format == 'PNG' else JPEG
    turn = orientation.undecoded(image)
    width, height = image.size if turn <= 4 else image.size[::-1]
    return Header(kind, height, width, turn, grey=is_16_bit(image) or image.mode in GREY)


def sixteen_bit(image: Image.Image) -> UInt16[np.ndarray, 'h w']:
    """The values of a 16-bit grey image."""
    return np.asarray(image).astype(np.uint16)


def eight_bit(image: Image.Image) -> UInt8[np.ndarray, 'h w c']:
    """The values of a grey or RGB image."""
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
