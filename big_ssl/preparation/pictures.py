"""From a source file (JPEG, PNG, TIFF, DICOM) to the encoded image that is stored in a record.

A JPEG or PNG keeps its compressed data; everything else, and what is made smaller, becomes a PNG,
or a JPEG where it was one.
"""

import dataclasses
import io

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

from big_ssl.data import dicom, image_files
from big_ssl.data.image_files import JPEG, PNG, PNG16
from big_ssl.data.windows import MINMAX, Window
from big_ssl.preparation import metadata

FORMATS = ('JPEG', 'PNG', 'TIFF')
_QUALITY = 95  # of JPEGs that are made smaller


@dataclasses.dataclass(frozen=True)
class Reading:
    """How source files are read.

    Attributes:
      window: of images with more than 8 bits; None: DICOM's own, and 16-bit images stay as they
        are until `config.dataset.window` at training.
      shorter_side: larger images are made smaller to this, in pixels; 0 leaves them.
      max_pixels: an image with more is refused before it is decoded.
      split_frames: the frames of a multi-frame DICOM become images of their own, else it is
        refused.
      burned_in: a DICOM that says that it shows names or numbers in its pixels is accepted.
    """

    window: Window | None = None
    shorter_side: int = 0
    max_pixels: int = 100_000_000
    split_frames: bool = False
    burned_in: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image as it is stored.

    Attributes:
      data: encoded.
      format: of `data.image_files`.
      height, width: upright, in pixels.
      orientation: EXIF's number.
      grey: one channel.
    """

    data: bytes
    format: int
    height: int
    width: int
    orientation: int
    grey: bool


def frames(data: bytes, reading: Reading) -> int:
    """How many images a source file becomes.

    Raises:
      ValueError: it cannot be used; what is wrong, in a few words.
    """
    if not data:
        raise ValueError('the file is empty (0 bytes)')
    if not dicom.is_dicom(data):
        return 1
    header = dicom.read_header(data, max_pixels=reading.max_pixels)
    if header.burned_in and not reading.burned_in:
        raise ValueError(
            'says that names or numbers are burned into its pixels (tag 0028,0301); clean it, or '
            'accept it by --burned_in=keep'
        )
    if header.frames > 1 and not reading.split_frames:
        raise ValueError(f'{header.frames} frames; --frames=split makes each an image of the case')
    return header.frames


@image_files.damage()
def picture(data: bytes, frame: int, reading: Reading) -> Picture:
    """The image that is stored for a frame of a source file; complete only if `levels` works.

    Raises:
      ValueError: it cannot be used; what is wrong, in a few words.
    """
    if dicom.is_dicom(data):
        pixels = dicom.read_frame(data, frame, reading.window, max_pixels=reading.max_pixels)
        return _encoded(_smaller(Image.fromarray(pixels), reading), lossy=False)
    opened = image_files.open_image(io.BytesIO(data), FORMATS, max_pixels=reading.max_pixels)
    with opened as image:
        _check_tiff(image)
        deep = image_files.is_16_bit(image)
        large = 0 < reading.shorter_side < min(image.size)
        lossy = image.format in ('JPEG', 'MPO')
        if image.format != 'TIFF' and not large and not (deep and reading.window):
            kind, height, width, turn, grey = image_files.header(image)
            strip = metadata.strip_jpeg if lossy else metadata.strip_png
            return Picture(strip(data, turn), kind, height, width, turn, grey)
        mode = 'L' if image.mode in image_files.GREY else 'RGB'
        whole = image_files.upright(image, mode)
        if deep:
            whole = _sixteen_bit(whole, image, reading.window)
    return _encoded(_smaller(whole, reading), lossy)


@image_files.damage()
def levels(stored: Picture) -> UInt8[np.ndarray, 'h w c']:
    """The stored image decoded, upright, in 8 bits; 16-bit values from smallest to largest.

    Raises:
      ValueError: it does not decode.
    """
    with image_files.open_image(io.BytesIO(stored.data)) as image:
        whole = image_files.upright(image, 'L' if stored.grey else 'RGB')
    if stored.format == PNG16:
        return Window(MINMAX).levels(image_files.sixteen_bit(whole))[..., None]
    return image_files.eight_bit(whole)


def _check_tiff(image: Image.Image) -> None:
    """Refuses what Pillow takes for unsigned 8 bits, though it is not (TIFF 6.0, section 19)."""
    if not isinstance(image, TiffImageFile) or image_files.is_16_bit(image):
        return
    if max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > 8:  # Pillow 13, colours one after the other
        raise ValueError('16 bits a channel in colour; convert it to 8-bit RGB or 16-bit grey')
    if max(image.tag_v2.get(SAMPLEFORMAT, (1,))) > 1:
        raise ValueError('signed pixels; convert it to unsigned ones')


def _sixteen_bit(whole: Image.Image, image: Image.Image, window: Window | None) -> Image.Image:
    """Values of a 16-bit image, or levels where there is a window; large is bright.

    Pillow leaves 16-bit TIFFs in which white is 0 (TIFF 6.0, section 3) as they are.
    """
    values = image_files.sixteen_bit(whole)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = 65535 - values
    return Image.fromarray(values if window is None else window.levels(values))


def _smaller(image: Image.Image, reading: Reading) -> Image.Image:
    """With `shorter_side`, if it is larger than that; antialiased."""
    shorter = min(image.size)
    if not 0 < reading.shorter_side < shorter:
        return image
    scale = reading.shorter_side / shorter
    size = round(image.width * scale), round(image.height * scale)
    if not image_files.is_16_bit(image):
        return image.resize(size, Image.Resampling.BILINEAR)
    values = Image.fromarray(image_files.sixteen_bit(image).astype(np.float32))
    return Image.fromarray(_rounded(values.resize(size, Image.Resampling.BILINEAR)))


def _rounded(image: Image.Image) -> UInt16[np.ndarray, 'h w']:
    return np.rint(np.asarray(image)).astype(np.uint16)


def _encoded(image: Image.Image, lossy: bool) -> Picture:
    file = io.BytesIO()
    image.info = {}  # comments and colour profiles of the source, which Pillow would write
    deep = image_files.is_16_bit(image)
    if lossy:
        image.save(file, 'JPEG', quality=_QUALITY, subsampling=0)
    else:
        image.save(file, 'PNG')
    kind = JPEG if lossy else PNG16 if deep else PNG
    grey = deep or image.mode == 'L'
    return Picture(file.getvalue(), kind, image.height, image.width, 1, grey)
