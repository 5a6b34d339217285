"""The host's way of a training batch: tf.data reads, decodes and crops what the sampler names.

TensorFlow does the reading and decoding only; which images and which crops is decided before.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from jaxtyping import Bool, Int, UInt8

from big_ssl.augment.crops import crop_boxes
from big_ssl.data.image_files import JPEG, PNG, PNG16
from big_ssl.data.images import ImageTable, decode
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.data.windows import MINMAX, Window
from big_ssl.errors import InputError

_JPEG_RATIOS = (1, 2, 4, 8)  # at which libjpeg decodes directly
_PREFETCH = 2
# EXIF's orientations (Exif 3.0, section 4.6.5.1.6) whose stored image, transposed if above 4, is
_MIRRORED, _UPSIDE_DOWN = (2, 3, 6, 7), (3, 4, 7, 8)


class _Plan(NamedTuple):
    """What is to be read and cropped, [views] each, or [batch, views].

    Attributes:
      source: path of the image, or the encoded image itself where images lie in records; '' where
        it is that of the first view.
      format: of `data.images`.
      turn: EXIF's orientation.
      ratio: at which a JPEG is decoded.
      box: y, x, height, width in pixels of the reduced image as it is stored.
    """

    source: tf.Tensor
    format: tf.Tensor
    turn: tf.Tensor
    ratio: tf.Tensor
    box: tf.Tensor


_PLANNED = (tf.string, tf.uint8, tf.uint8, tf.int64, tf.int64)


def host_batches(
    table: ImageTable,
    sampler: Sampler,
    steps: range,
    part: slice,
    *,
    size: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> Iterator[UInt8[np.ndarray, 'b v h w c']]:
    """The cropped views of `sampler.batch(step)[part]` for each step, in order.

    Args:
      table: headers of the images that the sampler draws from.
      sampler: decides images and crops.
      steps: consecutive steps.
      part: this host's examples of the global batch.
      size: side of a view in pixels.
      area: share of the image that a crop covers.
      aspect: width over height of a crop.

    Raises:
      InputError: an image that does not decode, by file and row.
    """

    def crops(step: np.ndarray) -> tuple[np.ndarray, ...]:
        return _crop_plan(table, sampler, sampler.batch(int(step))[part], size, area, aspect)

    def plan(step: tf.Tensor) -> _Plan:
        outs = tf.numpy_function(crops, [step], _PLANNED)
        return _Plan(*(tf.ensure_shape(out, [None, sampler.views, *last]) for out, last in
                       zip(outs, ([], [], [], [], [4]))))  # fmt: skip

    def load(plan: _Plan) -> tf.Tensor:
        return _views(plan, size, table)

    tf.config.set_visible_devices([], 'GPU')
    local = len(range(sampler.batch_size)[part])
    dataset = tf.data.Dataset.range(steps.start, steps.stop).map(plan).prefetch(1).unbatch()
    dataset = dataset.map(load, num_parallel_calls=os.cpu_count())
    dataset = dataset.batch(local, drop_remainder=True).prefetch(_PREFETCH)
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread sleeps for up to a minute, and closing waits
    dataset = dataset.with_options(options)
    iterator = dataset.as_numpy_iterator()
    for step in steps:
        try:
            yield next(iterator)
        except tf.errors.OpError as error:
            _name_culprit(table, sampler, range(step, min(step + _PREFETCH + 2, steps.stop)), part)
            raise InputError(f'{table.manifest.path}: reading images failed: {error}') from None


def _crop_plan(
    table: ImageTable,
    sampler: Sampler,
    batch: Indices,
    size: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
) -> tuple[np.ndarray, ...]:
    """The fields of `_Plan` for every view of a batch."""
    height, width = np.moveaxis(table.sizes[batch.images], -1, 0)
    boxes = crop_boxes(sampler.crops(batch), height, width, area=area, aspect=aspect)
    formats, turn = table.formats[batch.images], table.orientations[batch.images]
    boxes = _as_stored(boxes, height, width, turn)
    shorter = boxes[..., 2:].min(axis=-1)
    ratio = np.ones_like(shorter)
    for candidate in _JPEG_RATIOS[1:]:
        ratio[(formats == JPEG) & (shorter >= candidate * size)] = candidate
    once = (batch.images == batch.images[:, :1]).all(axis=1, keepdims=True)
    ratio = np.where(once, ratio.min(axis=1, keepdims=True), ratio)
    start = boxes[..., :2] // ratio[..., None]
    stop = -((boxes[..., :2] + boxes[..., 2:]) // -ratio[..., None])
    box = np.concatenate([start, stop - start], axis=-1)
    return _sources(table, batch.images, once[:, 0]), formats, turn, ratio, box


def _as_stored(
    boxes: Int[np.ndarray, 'b v 4'],
    height: Int[np.ndarray, 'b v'],
    width: Int[np.ndarray, 'b v'],
    turn: UInt8[np.ndarray, 'b v'],
) -> Int[np.ndarray, 'b v 4']:
    """Boxes of upright images as boxes of what the files hold."""
    y, x, rows, columns = np.moveaxis(boxes, -1, 0)
    y = np.where(np.isin(turn, _UPSIDE_DOWN), height - y - rows, y)
    x = np.where(np.isin(turn, _MIRRORED), width - x - columns, x)
    upright = np.stack([y, x, rows, columns], axis=-1)
    return np.where((turn > 4)[..., None], upright[..., [1, 0, 3, 2]], upright)


def _sources(
    table: ImageTable, images: Int[np.ndarray, 'b v'], once: Bool[np.ndarray, ' b']
) -> np.ndarray:
    """Path of each image, or itself where they lie in records; '' where the first view has it."""
    needed = np.ones(images.shape, bool)
    needed[once, 1:] = False
    sources = np.full(images.shape, b'', object)
    if table.manifest.store is not None:
        sources[needed] = table.manifest.store.read(images[needed])
    else:
        paths = table.manifest.image_path[images[needed]].astype(str)
        sources[needed] = np.char.encode(paths, 'utf-8').astype(object)
    return sources


def _views(plan: _Plan, size: int, table: ImageTable) -> tf.Tensor:
    """[views, size, size, channels]; an image that all views come from is decoded once."""
    views = range(plan.source.shape[0])

    def image(view: int) -> tf.Tensor:
        source = plan.source[view]
        data = tf.io.read_file(source) if table.manifest.store is None else source
        return _decode(data, plan.format[view], plan.ratio[view], table)

    def crop(pixels: tf.Tensor, view: int) -> tf.Tensor:
        return _upright(_crop(pixels, plan.box[view], size), plan.turn[view])

    def once() -> tf.Tensor:
        pixels = image(0)
        return tf.stack([crop(pixels, view) for view in views])

    def each() -> tf.Tensor:
        return tf.stack([crop(image(view), view) for view in views])

    out = tf.cond(tf.reduce_all(plan.source[1:] == b''), once, each)
    return tf.ensure_shape(out, [len(views), size, size, table.channels])


def _decode(data: tf.Tensor, kind: tf.Tensor, ratio: tf.Tensor, table: ImageTable) -> tf.Tensor:
    """INTEGER_ACCURATE is what Pillow computes; TensorFlow's default differs by up to 21 levels."""
    channels = table.channels

    def at(reduction: int) -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels, ratio=reduction, dct_method='INTEGER_ACCURATE')

    def jpeg() -> tf.Tensor:
        branch = tf.searchsorted(tf.constant(_JPEG_RATIOS, tf.int64), ratio[None])[0]
        return tf.switch_case(branch, [lambda r=r: at(r) for r in _JPEG_RATIOS])

    def deep() -> tf.Tensor:
        values = tf.io.decode_png(data, 1, dtype=tf.uint16)
        return tf.repeat(_levels(values, table.window), channels, axis=-1)

    branches = {JPEG: jpeg, PNG: lambda: tf.io.decode_png(data, channels), PNG16: deep}
    return tf.switch_case(tf.cast(kind, tf.int32), branches)


def _levels(values: tf.Tensor, window: Window | None) -> tf.Tensor:
    """`Window.levels`, in the graph."""
    numbers = tf.cast(values, tf.float32)
    low, high = tf.constant(0.0), tf.constant(1.0)
    if window is not None:
        low, high = tf.constant(window.low, tf.float32), tf.constant(window.high, tf.float32)
        if window.kind == MINMAX:
            low, high = tf.reduce_min(numbers), tf.reduce_max(numbers)
    scale = 255.0 / tf.maximum(high - low, 1e-6)
    return tf.cast(tf.clip_by_value(tf.round((numbers - low) * scale), 0.0, 255.0), tf.uint8)


def _upright(view: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """A square view turned as EXIF's orientation says."""

    def turned() -> tf.Tensor:
        whole = tf.cond(turn > 4, lambda: tf.transpose(view, (1, 0, 2)), lambda: view)
        whole = tf.cond(_among(turn, _MIRRORED), lambda: tf.reverse(whole, [1]), lambda: whole)
        upside_down = _among(turn, _UPSIDE_DOWN)
        return tf.cond(upside_down, lambda: tf.reverse(whole, [0]), lambda: whole)

    return tf.cond(turn == 1, lambda: view, turned)


def _among(turn: tf.Tensor, those: tuple[int, ...]) -> tf.Tensor:
    return tf.reduce_any(turn == tf.constant(those, tf.uint8))


def _crop(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    crop = tf.slice(image, [box[0], box[1], 0], [box[2], box[3], -1])
    resized = tf.image.resize(crop, [size, size], method='bilinear', antialias=True)
    return tf.cast(tf.round(resized), tf.uint8)


def _name_culprit(table: ImageTable, sampler: Sampler, steps: range, part: slice) -> None:
    """Decodes the images of a batch that failed one by one; raises at the one that does not.

    Pillow's words come first; TensorFlow is stricter, for example about a PNG without its end.
    """
    in_records = table.manifest.store is not None
    for step in steps:
        for row in np.unique(sampler.batch(step)[part].images).tolist():
            decode(table, row)
            source = _sources(table, np.array([[row]]), np.array([False]))[0, 0]
            try:
                data = tf.constant(source) if in_records else tf.io.read_file(source)
                _decode(data, tf.constant(table.formats[row]), tf.constant(1, tf.int64), table)
            except tf.errors.OpError as error:
                reason = ' '.join(error.message.split())
                raise table.error(row, f'does not decode: {reason}') from None
