"""From an encoded image to the views that are cropped from it, by OpenCV: one image, one thread.

For training alone, where time counts; evaluation images are Pillow's, see `data.images`.
"""

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from big_ssl.data.image_files import JPEG, PNG16
from big_ssl.data.windows import Window

JPEG_RATIOS = (1, 2, 4, 8)  # at which libjpeg decodes directly
_REDUCED = {
    1: 0,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
# EXIF's orientations (Exif 3.0, section 4.6.5.1.6) whose stored image, transposed if above 4, is
MIRRORED, UPSIDE_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)

cv2.setNumThreads(1)  # the callers have threads of their own


def decode(
    data: bytes, kind: int, channels: int, *, ratio: int = 1, window: Window | None = None
) -> UInt8[np.ndarray, 'h w *c']:
    """The image as it is stored, not turned; [h, w] where it has one channel, else [h, w, 3].

    It is what Pillow decodes, bit by bit, but for colour that is read as grey. Of a colour JPEG it
    is the luma that the file stores (Pillow's `draft('L')`, bit by bit); `convert('L')` of the
    colours is the same, save where one of these had to be clipped to 0 or 255: there it may differ
    by tens of levels. Of a colour PNG it is `convert('L')` or one level less: OpenCV rounds down.

    Args:
      data: the encoded image.
      kind: `JPEG`, `PNG` or `PNG16` of `image_files`.
      channels: 1 or 3; an image of 16 bits stays [h, w].
      ratio: one of JPEG_RATIOS; the sides of a JPEG are divided by it, rounded up (as by
        Pillow's `draft`).
      window: turns 16 bits into 8.

    Raises:
      ValueError: it does not decode.
    """
    if kind == PNG16:
        flags = cv2.IMREAD_UNCHANGED
    else:
        flags = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB
        flags |= cv2.IMREAD_IGNORE_ORIENTATION | (_REDUCED[ratio] if kind == JPEG else 0)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f'does not decode: {error.err}') from None
    if pixels is None:
        raise ValueError('does not decode')
    if kind != PNG16:
        return pixels
    if window is None or pixels.ndim != 2:
        raise ValueError('not a grey image of 16 bits, or no window for it')
    return window.levels(pixels)


def crop(
    pixels: UInt8[np.ndarray, 'h w *c'],
    box: Int[np.ndarray, ' 4'],
    turn: int,
    out: UInt8[np.ndarray, 'size size c2'],
) -> None:
    """Writes a box of an image into `out`: resized, turned upright, grey repeated if c2 is 3.

    Args:
      pixels: as stored.
      box: y, x, height, width in `pixels`, inside.
      turn: EXIF's orientation.
    """
    y, x, height, width = box.tolist()
    part = pixels[y : y + height, x : x + width]
    if turn == 1 and pixels.ndim == 3:
        resize(part, len(out), out)
        return
    view = resize(part, len(out)).reshape(len(out), len(out), -1)
    if turn > 4:
        view = view.transpose(1, 0, 2)
    if turn in MIRRORED:
        view = view[:, ::-1]
    if turn in UPSIDE_DOWN:
        view = view[::-1]
    out[:] = view


def resize(
    image: UInt8[np.ndarray, 'h w *c'],
    size: int,
    out: UInt8[np.ndarray, 'size size *c'] | None = None,
) -> UInt8[np.ndarray, 'size size *c']:
    """Resizes to a square, bilinearly, smoothed beforehand where the image gets smaller.

    Pillow's BILINEAR widens its triangle by the reduction f. Here means of k whole pixels take the
    larger part, and the rest r = f / k a kernel (a, 1 - 2 a, a), a = (r^2 - 1) / 12, before the
    interpolation: to the interpolation's mean variance of 1/6 it adds the (r^2 - 1) / 6 that the
    widened triangle has more. That takes a fifth of the time and differs by a level of 255 on
    photographs (tests). Up to f = 2.7, all that a crop beside libjpeg's own reductions needs, k is
    1; beyond r = 2.2 the kernel stays a mean of three.

    Args:
      image: one or three channels.
      size: of a side, in pixels.
      out: what the result is written into, and returned; None makes it.
    """
    height, width = image.shape[:2]
    rows, columns = (max(int(side / (1.35 * size)), 1) for side in (height, width))
    if max(rows, columns) > 1:
        image = _means(image, rows, columns)
    down, across = (side / size for side in image.shape[:2])
    if max(down, across) > 1:
        image = cv2.sepFilter2D(
            image, -1, _kernel(across), _kernel(down), borderType=cv2.BORDER_REPLICATE
        )
    return cv2.resize(image, (size, size), out, interpolation=cv2.INTER_LINEAR)


def _kernel(reduction: float) -> Float[np.ndarray, ' 3']:
    a = min(max((reduction**2 - 1) / 12, 0.0), 1 / 3)
    return np.array([a, 1 - 2 * a, a])


def _means(image: UInt8[np.ndarray, 'h w *c'], rows: int, columns: int) -> np.ndarray:
    """Means of this many pixels, of what is left when the border loses fewer than that."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    top, left = image.shape[0] % rows // 2, image.shape[1] % columns // 2
    inner = image[top : top + height * rows, left : left + width * columns]
    return cv2.resize(inner, (width, height), interpolation=cv2.INTER_AREA)
