"""The augmentations of SimCLR after the crop, for a batch of views on the device.

Everything drawn for a view follows from (key, index of its example, view) alone, so that neither
the batch's layout nor the number of devices changes a pixel. Only the order of the colour
operations is shared, by all views of a step: then one branch of four runs at a time.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from big_ssl.augment.blur import blur
from big_ssl.augment.colour import jitter, jitter_factors, to_grey
from big_ssl.augment.geometry import flip, rotate


@dataclass(frozen=True)
class Augmentation:
    """How strongly views differ; an operation of probability 0 is not compiled.

    The defaults are SimCLR's (Chen et al. 2020, appendix A). Strength 1 is a jitter of +-0.8 in
    brightness, contrast and saturation, and of +-0.2 turns in hue.
    """

    jitter_strength: float = 1.0
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    rotation_degrees: float = 0.0


# In pixels (SimCLR, appendix A).
BLUR_SIGMA = (0.1, 2.0)


class Uniforms(NamedTuple):
    """The draws of one view, each uniform in [0, 1)."""

    mirror: Float[Array, '']
    upend: Float[Array, '']
    jitter: Float[Array, '']
    grey: Float[Array, '']
    blur: Float[Array, '']
    sigma: Float[Array, '']
    angle: Float[Array, '']
    brightness: Float[Array, '']
    contrast: Float[Array, '']
    saturation: Float[Array, '']
    hue: Float[Array, '']


def augment(
    images: UInt8[Array, 'b v h w c'],
    indices: Int[Array, ' b'] | UInt32[Array, ' b'],
    key: Key[Array, ''],
    step_key: Key[Array, ''],
    augmentation: Augmentation,
) -> Float[Array, 'b v h w 3']:
    """Augments every view of every example, each by itself.

    Args:
      images: cropped views; c is 1 (grey, repeated to three channels) or 3.
      indices: global index of each example in the stream of training, not in the batch.
      key: of the run (`jax.random.key(seed)`).
      step_key: gives the order of the colour operations; the same on every device.
      augmentation: static.

    Returns:
      float32 in [0, 1].
    """
    order = jax.random.permutation(step_key, 4)

    def view(image: Array, index: Array, number: Array) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(key, index), number)
        draws = Uniforms(*jax.random.uniform(own, (len(Uniforms._fields),)))
        return _augment_view(image, draws, order, augmentation)

    views = jax.vmap(view, in_axes=(0, None, 0))
    return jax.vmap(views, in_axes=(0, 0, None))(images, indices, jnp.arange(images.shape[1]))


def to_float(images: UInt8[Array, '*b h w c']) -> Float[Array, '*b h w 3']:
    """Scales [0, 255] to [0, 1] and repeats a single channel: the input of an evaluation."""
    return _three_channels(images.astype(jnp.float32) / 255)


def _augment_view(
    image: UInt8[Array, 'h w c'],
    draws: Uniforms,
    order: Int[Array, ' 4'],
    augmentation: Augmentation,
) -> Float[Array, 'h w 3']:
    a = augmentation
    image = image.astype(jnp.float32) / 255
    if a.flip_horizontal:
        image = flip(image, draws.mirror < a.flip_horizontal, axis=1)
    if a.flip_vertical:
        image = flip(image, draws.upend < a.flip_vertical, axis=0)
    if a.jitter_probability and a.jitter_strength:
        uniforms = jnp.stack([draws.brightness, draws.contrast, draws.saturation, draws.hue])
        jittered = jitter(image, jitter_factors(uniforms, a.jitter_strength), order)
        image = jnp.where(draws.jitter < a.jitter_probability, jittered, image)
    if a.grey_probability and image.shape[-1] == 3:
        image = jnp.where(draws.grey < a.grey_probability, to_grey(image), image)
    if a.blur_probability:
        sigma = BLUR_SIGMA[0] + draws.sigma * (BLUR_SIGMA[1] - BLUR_SIGMA[0])
        image = blur(image, sigma, draws.blur < a.blur_probability)
    if a.rotation_degrees:
        image = rotate(image, (2 * draws.angle - 1) * a.rotation_degrees)
    return _three_channels(jnp.clip(image, 0.0, 1.0))


def _three_channels(image: Float[Array, '*b h w c']) -> Float[Array, '*b h w 3']:
    return jnp.broadcast_to(image, (*image.shape[:-1], 3))
