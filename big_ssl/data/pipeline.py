"""The host's way of a training batch: what the sampler names is read, decoded and cropped.

Which images and which crops is decided before, in NumPy, for the whole batch. Threads do the rest,
a few examples each; OpenCV leaves Python's lock free while it works.
"""

import collections
import functools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from big_ssl import processes
from big_ssl.augment.crops import Crop, crop_boxes
from big_ssl.data import views
from big_ssl.data.buffers import Buffers
from big_ssl.data.image_files import JPEG
from big_ssl.data.images import ImageTable, decode, encoded
from big_ssl.data.sampler import Indices, Sampler

_AHEAD = 2  # batches beyond the one that is waited for
_AT_ONCE = 4  # examples of a thread


class Plan(NamedTuple):
    """What is to be read and cropped.

    Attributes:
      images: rows of the manifest.
      ratio: at which each is decoded.
      box: y, x, height, width in pixels of the reduced image as it is stored.
    """

    images: Int[np.ndarray, 'b v']
    ratio: Int[np.ndarray, 'b v']
    box: Int[np.ndarray, 'b v 4']


def host_batches(
    table: ImageTable,
    sampler: Sampler,
    steps: range,
    part: slice,
    *,
    size: int,
    crop: Crop,
) -> Iterator[UInt8[np.ndarray, 'b v h w c']]:
    """The cropped views of `sampler.batch(step)[part]` for each step, in order.

    Args:
      table: headers of the images that the sampler draws from.
      sampler: decides images and crops.
      steps: consecutive steps.
      part: this host's examples of the global batch.
      size: side of a view in pixels.
      crop: which boxes become views.

    Raises:
      InputError: an image that does not decode, by file and row.
    """
    pool = ThreadPoolExecutor(processes.usable_cores(), 'views')
    examples = len(range(sampler.batch_size)[part])
    buffers = Buffers((examples, sampler.views, size, size, table.channels), np.uint8)

    def begin(step: int) -> tuple[np.ndarray, list[Future]]:
        plan = planned(table, sampler, sampler.batch(step)[part], size, crop)
        out = buffers.take()
        load = functools.partial(_load, table, plan, out)
        starts = range(0, len(out), _AT_ONCE)
        return out, [pool.submit(load, range(len(out))[s : s + _AT_ONCE]) for s in starts]

    coming: collections.deque[Future] = collections.deque()
    try:
        for step in steps:
            while len(coming) <= _AHEAD and step + len(coming) < steps.stop:
                coming.append(pool.submit(begin, step + len(coming)))
            batch, parts = coming.popleft().result()
            wait(parts)  # one by one, each part that is done would wake this thread
            for done in parts:
                done.result()
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def planned(
    table: ImageTable,
    sampler: Sampler,
    batch: Indices,
    size: int,
    crop: Crop,
) -> Plan:
    """Which images, boxes and ratios a batch asks for.

    An image is decoded at one ratio for all views of an example. Arguments as in `host_batches`.
    """
    height, width = np.moveaxis(table.sizes[batch.images], -1, 0)
    boxes = crop_boxes(sampler.crops(batch), height, width, crop)
    boxes = _as_stored(boxes, height, width, table.orientations[batch.images])
    shorter = boxes[..., 2:].min(axis=-1)
    ratio = np.ones_like(shorter)
    for candidate in views.JPEG_RATIOS[1:]:
        ratio[(table.formats[batch.images] == JPEG) & (shorter >= candidate * size)] = candidate
    same = batch.images[:, :, None] == batch.images[:, None, :]
    ratio = np.where(same, ratio[:, None, :], views.JPEG_RATIOS[-1]).min(axis=-1)
    start = boxes[..., :2] // ratio[..., None]
    stop = -((boxes[..., :2] + boxes[..., 2:]) // -ratio[..., None])
    return Plan(batch.images, ratio, np.concatenate([start, stop - start], axis=-1))


def _as_stored(
    boxes: Int[np.ndarray, 'b v 4'],
    height: Int[np.ndarray, 'b v'],
    width: Int[np.ndarray, 'b v'],
    turn: UInt8[np.ndarray, 'b v'],
) -> Int[np.ndarray, 'b v 4']:
    """Boxes of upright images as boxes of what the files hold."""
    y, x, rows, columns = np.moveaxis(boxes, -1, 0)
    y = np.where(np.isin(turn, views.UPSIDE_DOWN), height - y - rows, y)
    x = np.where(np.isin(turn, views.MIRRORED), width - x - columns, x)
    upright = np.stack([y, x, rows, columns], axis=-1)
    return np.where((turn > 4)[..., None], upright[..., [1, 0, 3, 2]], upright)


def _load(table: ImageTable, plan: Plan, out: np.ndarray, examples: range) -> None:
    """Fills `out` for some examples; each image is read and decoded once an example."""
    rows = np.unique(plan.images[examples.start : examples.stop])
    data = dict(zip(rows.tolist(), encoded(table, rows)))
    for example in examples:
        pixels: dict[int, np.ndarray] = {}
        for view, row in enumerate(plan.images[example].tolist()):
            if row not in pixels:
                pixels[row] = _decoded(table, row, data[row], int(plan.ratio[example, view]))
            turn = int(table.orientations[row])
            views.crop(pixels[row], plan.box[example, view], turn, out[example, view])


def _decoded(table: ImageTable, row: int, data: bytes, ratio: int) -> np.ndarray:
    """Where an image does not decode, Pillow's words come first: OpenCV has none."""
    kind = int(table.formats[row])
    try:
        return views.decode(data, kind, table.channels, ratio=ratio, window=table.window)
    except ValueError as error:
        decode(table, row)
        raise table.error(row, error) from None
