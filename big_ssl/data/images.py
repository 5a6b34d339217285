"""The images of a run: what their headers say, and decoding by Pillow (no TensorFlow).

Read as they are: JPEG and PNG of 8 bits, and grey PNG of 16 bits, which `config.dataset.window`
turns into 8. Other formats go through `big_ssl.prepare`.
"""

import collections
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from big_ssl.augment.crops import centre_box
from big_ssl.data import image_files, windows
from big_ssl.data.image_files import PNG16
from big_ssl.data.manifest import Manifest
from big_ssl.errors import InputError
from big_ssl.files import is_remote

_WORKERS = 16
_AHEAD = 4 * _WORKERS


@dataclasses.dataclass(frozen=True)
class ImageTable:
    """Files and headers of the images that a run reads, indexed by the manifest's rows.

    Attributes:
      manifest: the table that the images come from.
      sizes: [n, 2] height and width of the upright image in pixels; 0 for rows not asked for.
      formats: [n] `JPEG`, `PNG` or `PNG16` of `image_files`.
      orientations: [n] EXIF's number; 1 is upright.
      channels: 1 or 3, of the decoded images.
      window: what turns 16-bit values into 8-bit ones.
    """

    manifest: Manifest
    sizes: Int[np.ndarray, 'n 2']
    formats: UInt8[np.ndarray, ' n']
    orientations: UInt8[np.ndarray, ' n']
    channels: int
    window: windows.Window | None = None

    def error(self, row: int, problem: object) -> InputError:
        """An error that names row and file."""
        where, path = self.manifest.where(row), self.manifest.image_path[row]
        return InputError(f'{where}: {path}: {problem}')


def read_headers(
    manifest: Manifest,
    rows: Int[np.ndarray, ' k'],
    channels: int,
    window: windows.Window | None = None,
) -> ImageTable:
    """Opens every file among `rows` once, headers only; what lies in records has been looked at.

    Args:
      channels: 1 or 3, of the decoded images; 0: 1 if all of `rows` are grey.

    Raises:
      InputError: a file is missing or is not an image that can be used, naming file and row.
    """
    if (store := manifest.store) is not None:
        facts, grey = (store.sizes, store.formats, store.orientations), store.grey[rows]
        table = ImageTable(manifest, *facts, channels, window)
    else:
        table, grey = _read_files(manifest, rows, window)
    _check_window(table, rows)
    return dataclasses.replace(table, channels=channels or (1 if grey.all() else 3))


def _read_files(
    manifest: Manifest, rows: Int[np.ndarray, ' k'], window: windows.Window | None
) -> tuple[ImageTable, Bool[np.ndarray, ' k']]:
    """The headers of the files among `rows`, and which of them are grey."""
    count = len(manifest)
    sizes, ones = np.zeros((count, 2), np.int32), np.ones(count, np.uint8)
    table = ImageTable(manifest, sizes, np.zeros(count, np.uint8), ones, 3, window)

    def header(row: int) -> image_files.Header:
        with _opened(table, row) as image:
            try:
                return image_files.header(image)
            except ValueError as error:
                raise table.error(row, error) from None

    grey = np.zeros(len(rows), bool)
    for i, found in enumerate(in_parallel(header, rows.tolist())):
        table.sizes[rows[i]] = found.height, found.width
        table.formats[rows[i]], table.orientations[rows[i]] = found.format, found.orientation
        grey[i] = found.grey
    return table, grey


def _check_window(table: ImageTable, rows: Int[np.ndarray, ' k']) -> None:
    """Raises InputError where there are 16-bit images and no window for them."""
    deep = rows[table.formats[rows] == PNG16]
    if table.window is None and len(deep):
        raise table.error(
            deep[0],
            f'16 bits a pixel; say what becomes black and white by --config.dataset.window='
            f'{windows.HINT}',
        )


def decode(table: ImageTable, row: int) -> UInt8[np.ndarray, 'h w c']:
    """One whole image, upright.

    Raises:
      InputError: it does not decode.
    """
    with _opened(table, row) as image:
        return image_files.eight_bit(_converted(image, table, row))


def evaluation_image(
    table: ImageTable, row: int, *, size: int, proportion: float
) -> UInt8[np.ndarray, 'size size c']:
    """Centre crop of `proportion` of the shorter side, resized by Pillow's BILINEAR (antialiased).

    Raises:
      InputError: the image does not decode.
    """
    with _opened(table, row) as file:
        image = _converted(file, table, row)
    y, x, height, width = centre_box(image.height, image.width, proportion).tolist()
    image = image.crop((x, y, x + width, y + height))
    return image_files.eight_bit(image.resize((size, size), Image.Resampling.BILINEAR))


def in_parallel(load: Callable[[int], Any], rows: Iterable[int]) -> Iterator[Any]:
    """`load(row)` for each row, in order, on several threads (decoding releases the GIL).

    No more than `_AHEAD` are loaded before they are asked for.
    """
    under_way: collections.deque[Future[Any]] = collections.deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        for row in rows:
            if len(under_way) == _AHEAD:
                yield under_way.popleft().result()
            under_way.append(pool.submit(load, row))
        while under_way:
            yield under_way.popleft().result()


def encoded(table: ImageTable, rows: Int[np.ndarray, ' k']) -> list[bytes]:
    """The images of `rows` as they are stored.

    Raises:
      InputError: one cannot be read.
    """
    if (store := table.manifest.store) is not None:
        return store.read(rows)
    return [_file(table, row) for row in rows.tolist()]


def _file(table: ImageTable, row: int) -> bytes:
    path = table.manifest.image_path[row]
    try:
        if is_remote(path):
            return epath.Path(path).read_bytes()
        with open(path, 'rb', buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise table.error(row, image_files.no_such_file(path)) from None
    except OSError as error:
        raise table.error(row, error.strerror or error) from None


def _opened(table: ImageTable, row: int) -> Image.Image:
    """A lazily decoded image whose file has been read."""
    path = table.manifest.image_path[row]
    try:
        if (store := table.manifest.store) is not None:
            return image_files.open_image(io.BytesIO(store.read(np.array([row]))[0]))
        # Only for remote paths is epath's open used: it is ten times slower on local files.
        file = io.BytesIO(epath.Path(path).read_bytes()) if is_remote(path) else path
        return image_files.open_image(file)
    except (OSError, ValueError) as error:
        raise table.error(row, error) from None


def _converted(image: Image.Image, table: ImageTable, row: int) -> Image.Image:
    """The upright image as 8-bit grey or RGB."""
    mode = 'RGB' if table.channels == 3 else 'L'
    try:
        whole = image_files.upright(image, mode)
    except ValueError as error:
        raise table.error(row, error) from None
    if not image_files.is_16_bit(image):
        return whole
    if table.window is None:
        raise table.error(row, '16 bits a pixel, and no --config.dataset.window')
    return Image.fromarray(table.window.levels(image_files.sixteen_bit(whole))).convert(mode)
