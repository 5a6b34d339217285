"""The host's way of a training batch: tf.data reads, decodes and crops what the sampler names.

TensorFlow does the reading and decoding only; which images and which crops is decided before.
"""

import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from jaxtyping import UInt8

from big_ssl.augment.crops import crop_boxes
from big_ssl.data.images import ImageTable, decode
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.errors import InputError

_JPEG_RATIOS = (1, 2, 4, 8)  # at which libjpeg decodes directly
_PREFETCH = 2


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

    def plan(step: tf.Tensor) -> tuple[tf.Tensor, ...]:
        outs = tf.numpy_function(crops, [step], (tf.string, tf.bool, tf.int64, tf.int64))
        shapes = ([None, sampler.views],) * 3 + ([None, sampler.views, 4],)
        return tuple(tf.ensure_shape(out, shape) for out, shape in zip(outs, shapes))

    def load(paths: tf.Tensor, jpeg: tf.Tensor, ratio: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
        return _views(paths, jpeg, ratio, boxes, size, table.channels)

    tf.config.set_visible_devices([], 'GPU')
    local = len(range(sampler.batch_size)[part])
    dataset = tf.data.Dataset.range(steps.start, steps.stop).map(plan).unbatch()
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
    """Path, format, JPEG ratio and box (in pixels of the reduced image) of every view."""
    height, width = np.moveaxis(table.sizes[batch.images], -1, 0)
    boxes = crop_boxes(sampler.crops(batch), height, width, area=area, aspect=aspect)
    jpeg = table.jpeg[batch.images]
    shorter = boxes[..., 2:].min(axis=-1)
    ratio = np.ones_like(shorter)
    for candidate in _JPEG_RATIOS[1:]:
        ratio[jpeg & (shorter >= candidate * size)] = candidate
    one_image = (batch.images == batch.images[:, :1]).all(axis=1, keepdims=True)
    ratio = np.where(one_image, ratio.min(axis=1, keepdims=True), ratio)
    start = boxes[..., :2] // ratio[..., None]
    stop = -((boxes[..., :2] + boxes[..., 2:]) // -ratio[..., None])
    paths = np.char.encode(table.manifest.image_path[batch.images].astype(str), 'utf-8')
    return paths.astype(object), jpeg, ratio, np.concatenate([start, stop - start], axis=-1)


def _views(
    paths: tf.Tensor, jpeg: tf.Tensor, ratio: tf.Tensor, boxes: tf.Tensor, size: int, channels: int
) -> tf.Tensor:
    """[views, size, size, channels]; an image that all views come from is decoded once."""
    views = range(paths.shape[0])

    def image(view: int) -> tf.Tensor:
        return _decode(tf.io.read_file(paths[view]), jpeg[view], ratio[view], channels)

    def once() -> tf.Tensor:
        pixels = image(0)
        return tf.stack([_crop(pixels, boxes[view], size) for view in views])

    def each() -> tf.Tensor:
        return tf.stack([_crop(image(view), boxes[view], size) for view in views])

    out = tf.cond(tf.reduce_all(paths == paths[0]), once, each)
    return tf.ensure_shape(out, [len(views), size, size, channels])


def _decode(data: tf.Tensor, jpeg: tf.Tensor, ratio: tf.Tensor, channels: int) -> tf.Tensor:
    """INTEGER_ACCURATE is what Pillow computes; TensorFlow's default differs by up to 21 levels."""

    def at(reduction: int) -> tf.Tensor:
        return tf.io.decode_jpeg(data, channels, ratio=reduction, dct_method='INTEGER_ACCURATE')

    def reduced() -> tf.Tensor:
        branch = tf.searchsorted(tf.constant(_JPEG_RATIOS, tf.int64), ratio[None])[0]
        return tf.switch_case(branch, [lambda r=r: at(r) for r in _JPEG_RATIOS])

    return tf.cond(jpeg, reduced, lambda: tf.io.decode_png(data, channels))


def _crop(image: tf.Tensor, box: tf.Tensor, size: int) -> tf.Tensor:
    crop = tf.slice(image, [box[0], box[1], 0], [box[2], box[3], -1])
    resized = tf.image.resize(crop, [size, size], method='bilinear', antialias=True)
    return tf.cast(tf.round(resized), tf.uint8)


def _name_culprit(table: ImageTable, sampler: Sampler, steps: range, part: slice) -> None:
    """Decodes the images of a batch that failed one by one; raises at the one that does not.

    Pillow's words come first; TensorFlow is stricter, for example about a PNG without its end.
    """
    manifest = table.manifest
    for step in steps:
        for row in np.unique(sampler.batch(step)[part].images).tolist():
            decode(manifest, row, table.channels)
            path = manifest.image_path[row]
            try:
                _decode(
                    tf.io.read_file(path),
                    tf.constant(bool(table.jpeg[row])),
                    tf.constant(1, tf.int64),
                    table.channels,
                )
            except tf.errors.OpError as error:
                reason = ' '.join(error.message.split())
                raise InputError(
                    f'{manifest.where(row)}: {path}: does not decode: {reason}'
                ) from None
