"""The second way of a training batch: all images on the device, cropped there (no TensorFlow).

Every image is decoded once by Pillow and stored as a square uint8 array; a crop is a box in the
stored image. Sampler, pairs and crops are those of the host's way.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from big_ssl.augment.crops import crop_boxes
from big_ssl.data.images import ImageTable, decode, in_parallel
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError


def stored_images(
    table: ImageTable, rows: Int[np.ndarray, ' n'], size: int, *, limit_bytes: int
) -> UInt8[np.ndarray, 'n size size c']:
    """The images of `rows`, each resized to a square.

    Raises:
      InputError: they need more than `limit_bytes`, or one does not decode.
    """
    needed = len(rows) * size * size * table.channels
    if needed > limit_bytes:
        raise InputError(
            f'config: dataset.placement=device needs {needed / 2**30:.1f} GiB for {len(rows)} '
            f'images of {size} x {size} x {table.channels}, the device has '
            f'{limit_bytes / 2**30:.1f} GiB for them; lower --config.dataset.device_size or use '
            '--config.dataset.placement=host'
        )

    def load(row: int) -> np.ndarray:
        pixels = decode(table, row)
        image = Image.fromarray(pixels if table.channels == 3 else pixels[..., 0])
        resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
        return resized.reshape(size, size, table.channels)

    return np.stack(list(in_parallel(load, rows.tolist())))


def device_batches(
    table: ImageTable,
    sampler: Sampler,
    steps: range,
    part: slice,
    *,
    rows: Int[np.ndarray, ' n'],
    size: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Iterator[tuple[Int[np.ndarray, 'b v'], Float[np.ndarray, 'b v 4']]]:
    """Position among the stored `rows` and box (y, x, height, width, stored pixels) of each view.

    Args are those of `pipeline.host_batches`, and `rows`, `size` those of `stored_images`.
    """
    position = np.zeros(len(table.manifest), np.int32)
    position[rows] = np.arange(len(rows))
    for step in steps:
        batch = sampler.batch(step)[part]
        sides = table.sizes[batch.images]
        boxes = crop_boxes(
            sampler.crops(batch), sides[..., 0], sides[..., 1], area=area, aspect=aspect
        )
        scale = size / np.concatenate([sides, sides], axis=-1)
        yield position[batch.images], (boxes * scale).astype(np.float32)
