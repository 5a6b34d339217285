"""Which box of an image becomes a view: the same on the host and in the step.

A box is (y, x, height, width) in whole pixels. Arrays are NumPy's, or JAX's with 64 bits enabled.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Side = int | Int[np.ndarray, '*b']


class Crop(NamedTuple):
    """Which boxes are drawn, and which of those are taken.

    Attributes:
      area: range of the share of the image's area within which a box is drawn.
      aspect: allowed range of width / height.
      min_object_covered: a box with a smaller share of the image's area is drawn again. SimCLR
        draws boxes from a share of 0.08 on and takes those from 0.1 on: its public code
        (data_util.py, `distorted_bounding_box_crop`) calls TensorFlow's op with this argument and
        with the whole image as the object.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    min_object_covered: float = 0.0


def crop_boxes(
    uniforms: Float[np.ndarray, '*b candidates 4'],
    height: Side,
    width: Side,
    crop: Crop,
) -> Int[np.ndarray, '*b 4']:
    """Random boxes by the rule of `tf.image.sample_distorted_bounding_box`, which SimCLR calls.

    Each candidate draws its aspect (width / height) uniformly, then its height uniformly among
    those that keep the area in range (torchvision, by contrast, draws the area uniformly and the
    aspect log-uniformly). The first candidate that fits wins; where none does, as in a very long
    image, the box is the largest centred one of an allowed aspect (torchvision's rule; TensorFlow
    takes the whole image). A box may lie at the lower and the right border, at which TensorFlow
    never puts one: ours lie half a pixel lower and further right on average.

    Args:
      uniforms: in [0, 1): of aspect, height, y and x for each candidate; ten are plenty
        where at least half of them fit.
      height: of the image in pixels, a number or an array over the leading axes.
      width: likewise.
      crop: which boxes are drawn and taken.
    """
    area, aspect, min_object_covered = crop
    xp = uniforms.__array_namespace__()
    side_y = xp.broadcast_to(height, uniforms.shape[:-2])[..., None].astype(np.int64)
    side_x = xp.broadcast_to(width, uniforms.shape[:-2])[..., None].astype(np.int64)
    pixels = side_y * side_x
    ratio = aspect[0] + uniforms[..., 0] * (aspect[1] - aspect[0])
    low = xp.rint(xp.sqrt(area[0] * pixels / ratio))
    high = xp.minimum(xp.rint(xp.sqrt(area[1] * pixels / ratio)), side_y)
    high = xp.minimum(high, xp.floor((side_x + 0.5) / ratio))
    h = low + xp.floor(uniforms[..., 1] * (xp.maximum(high - low, 0) + 1))
    w = xp.rint(h * ratio)
    y = xp.floor(uniforms[..., 2] * (side_y - h + 1))
    x = xp.floor(uniforms[..., 3] * (side_x - w + 1))

    fits = (h <= side_y) & (w <= side_x) & (w > 0) & (h > 0)
    fits &= (h * w >= area[0] * pixels) & (h * w <= area[1] * pixels)
    fits &= h * w >= min_object_covered * pixels
    last = fits.shape[-1] - 1
    first = xp.where(fits, xp.arange(last + 1), last).min(axis=-1)[..., None, None]
    drawn = xp.take_along_axis(xp.stack([y, x, h, w], axis=-1), first, axis=-2)[..., 0, :]
    fallback = _largest_box(side_y[..., 0], side_x[..., 0], aspect, xp)
    return xp.where(fits.any(axis=-1)[..., None], drawn, fallback).astype(np.int64)


def centre_box(height: Side, width: Side, proportion: float = 0.875) -> Int[np.ndarray, '*b 4']:
    """The centred square of `proportion` times the shorter side (SimCLR's evaluation crop)."""
    height, width = np.broadcast_arrays(height, width)
    side = np.rint(proportion * np.minimum(height, width)).astype(np.int64)
    return np.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side], axis=-1)


def _largest_box(
    height: Int[np.ndarray, '*b'],
    width: Int[np.ndarray, '*b'],
    aspect: tuple[float, float],
    xp: Any,
) -> Float[np.ndarray, '*b 4']:
    h = xp.minimum(height, xp.rint(width / aspect[0]))
    w = xp.minimum(width, xp.rint(height * aspect[1]))
    return xp.stack([(height - h) // 2, (width - w) // 2, h, w], axis=-1)
