"""Looking at source images before anything is written: what they are, what is wrong with them."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from etils import epath
from PIL import Image

from big_ssl.data import image_files
from big_ssl.preparation import duplicates, pictures
from big_ssl.preparation.pictures import Reading


@dataclasses.dataclass(frozen=True)
class Scanned:
    """One image, or one source file that is no image.

    Attributes:
      row: of the table.
      frame: of the source file; 0 where it has one.
      frames: that the source file has.
      problem: '' if it can be used; the rest is 0 or empty if it cannot.
      size: of the source file in bytes.
      sha256: of the source file, hexadecimal.
      height, width: of the stored image, upright.
      format, orientation: as in `data.images.ImageTable`.
      grey: one channel.
      mean, deviation: of its grey levels, 0 to 255.
      perceptual_hash: `duplicates.HASH_BYTES` bytes.
    """

    row: int
    frame: int = 0
    frames: int = 1
    problem: str = ''
    size: int = 0
    sha256: str = ''
    height: int = 0
    width: int = 0
    format: int = 0
    orientation: int = 1
    grey: bool = False
    mean: float = 0.0
    deviation: float = 0.0
    perceptual_hash: bytes = b''


def scan(paths: Sequence[str], rows: Sequence[int], reading: Reading) -> pd.DataFrame:
    """A row of `Scanned` for each image of these files, in order.

    Args:
      paths: of the source files.
      rows: of the table, one a path.
      reading: how they are read.
    """
    found = [image for path, row in zip(paths, rows) for image in _images(path, row, reading)]
    return pd.DataFrame([dataclasses.asdict(image) for image in found])


def read_source(path: str) -> bytes:
    """The bytes of a file, local or remote.

    Raises:
      ValueError: it cannot be read.
    """
    try:
        return epath.Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(image_files.no_such_file(path)) from None
    except OSError as error:
        raise ValueError(error.strerror or _one_line(error)) from None


def _brightness(grey: Image.Image) -> tuple[float, float]:
    """Mean and standard deviation of the levels."""
    counts, values = np.array(grey.histogram(), np.float64), np.arange(256)
    mean = counts @ values / counts.sum()
    return mean, (counts @ (values - mean) ** 2 / counts.sum()) ** 0.5


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _images(path: str, row: int, reading: Reading) -> Iterator[Scanned]:
    try:
        data = read_source(path)
        frames = pictures.frames(data, reading)
    except ValueError as error:
        yield Scanned(row=row, problem=_one_line(error))
        return
    sha256 = digest(data)
    for frame in range(frames):
        found = Scanned(row=row, frame=frame, frames=frames)
        try:
            stored = pictures.picture(data, frame, reading)
            grey = duplicates.grey(pictures.levels(stored))
            mean, deviation = _brightness(grey)
            yield dataclasses.replace(
                found,
                size=len(data),
                sha256=sha256,
                height=stored.height,
                width=stored.width,
                format=stored.format,
                orientation=stored.orientation,
                grey=stored.grey,
                mean=mean,
                deviation=deviation,
                perceptual_hash=duplicates.perceptual_hash(grey),
            )
        except ValueError as error:
            yield dataclasses.replace(found, problem=_one_line(error))


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
