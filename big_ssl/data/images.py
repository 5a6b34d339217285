"""Image files: what their headers say, and decoding by Pillow (no TensorFlow).

Accepted are JPEG and PNG with 8 bits a channel. Everything that could silently become something
else (CMYK, 16 bits, animations, images of absurd size) is refused by file and row.
"""

import dataclasses
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from big_ssl.augment.crops import centre_box
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError

MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')
_WORKERS = 16


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Files and headers of the images that a run reads, indexed by the manifest's rows.

    Attributes:
      manifest: the table that the images come from.
      sizes: [n, 2] height and width in pixels; 0 for rows that were not asked for.
      jpeg: [n] JPEG (else PNG).
      channels: 1 or 3, of the decoded images.
    """

    manifest: Manifest
    sizes: Int[np.ndarray, 'n 2']
    jpeg: Bool[np.ndarray, ' n']
    channels: int


def read_headers(manifest: Manifest, rows: Int[np.ndarray, ' k'], channels: int) -> ImageTable:
    """Opens every file among `rows` once, headers only.

    Raises:
      InputError: a file is missing or is not an image that can be used, naming file and row.
    """

    def header(row: int) -> tuple[int, int, bool]:
        with _opened(manifest, row) as image:
            return image.height, image.width, image.format != 'PNG'

    sizes = np.zeros((len(manifest), 2), np.int64)
    jpeg = np.zeros(len(manifest), bool)
    with ThreadPoolExecutor(_WORKERS) as pool:
        for row, (height, width, is_jpeg) in zip(rows, pool.map(header, rows)):
            sizes[row], jpeg[row] = (height, width), is_jpeg
    return ImageTable(manifest=manifest, sizes=sizes, jpeg=jpeg, channels=channels)


def decode(manifest: Manifest, row: int, channels: int) -> UInt8[np.ndarray, 'h w c']:
    """One whole image.

    Raises:
      InputError: it does not decode.
    """
    with _opened(manifest, row) as image:
        return _pixels(_converted(image, channels, manifest, row))


def evaluation_image(
    manifest: Manifest, row: int, channels: int, *, size: int, proportion: float
) -> UInt8[np.ndarray, 'size size c']:
    """Centre crop of `proportion` of the shorter side, resized by Pillow's BILINEAR (antialiased).

    Raises:
      InputError: the image does not decode.
    """
    with _opened(manifest, row) as image:
        image = _converted(image, channels, manifest, row)
        y, x, height, width = centre_box(image.height, image.width, proportion).tolist()
        image = image.crop((x, y, x + width, y + height))
        return _pixels(image.resize((size, size), Image.Resampling.BILINEAR))


def in_parallel(load: Callable[[int], Any], rows: Iterable[int]) -> Iterator[Any]:
    """`load(row)` for each row, in order, on several threads (decoding releases the GIL)."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        yield from pool.map(load, rows)


def _opened(manifest: Manifest, row: int) -> Image.Image:
    """A lazily decoded image whose file has been read."""
    path = manifest.image_path[row]
    try:
        # Only for remote paths is epath's open used: it is ten times slower on local files.
        file = io.BytesIO(epath.Path(path).read_bytes()) if '://' in path else path
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            image = Image.open(file, formats=('JPEG', 'PNG'))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            'no such file'
            if isinstance(error, FileNotFoundError)
            else 'more pixels than Pillow opens'
            if isinstance(error, Image.DecompressionBombError)
            else getattr(error, 'strerror', None) or 'not a JPEG or PNG image'
        )
        raise InputError(f'{manifest.where(row)}: {path}: {reason}') from None
    frames = getattr(image, 'n_frames', 1)
    problem = (
        f'{image.mode} pixels; convert it to 8-bit grey or RGB'
        if image.mode not in MODES
        else f'{frames} frames; save it as one still image'
        if frames > 1 and image.format != 'MPO'  # a phone's JPEG with its preview
        else '16 bits a channel; convert it to 8-bit grey or RGB'
        if ';16' in str(image.tile)
        else ''
    )
    if problem:
        image.close()
        raise InputError(f'{manifest.where(row)}: {path}: {problem}')
    return image


def _converted(image: Image.Image, channels: int, manifest: Manifest, row: int) -> Image.Image:
    try:
        return image.convert('RGB' if channels == 3 else 'L')
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(
            f'{manifest.where(row)}: {manifest.image_path[row]}: does not decode: {error}'
        ) from None


def _pixels(image: Image.Image) -> UInt8[np.ndarray, 'h w c']:
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
