"""Colour jitter of SimCLR (Chen et al. 2020, appendix A), second version of the authors' code.

Images are float32 in [0, 1]; every operation is clipped back to that range. The arithmetic is
that of `tf.image`. Saturation and hue act in HSV; saturation needs no round trip through it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# ITU-R BT.601 luma, as in tf.image.rgb_to_grayscale.
GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)


def brightness(
    image: Float[Array, '*b h w c'], factor: Float[Array, ''] | float
) -> Float[Array, '*b h w c']:
    """Multiplies by `factor` (SimCLR v2's rule; v1 added an offset)."""
    return _clip(image * factor)


def contrast(
    image: Float[Array, '*b h w c'], factor: Float[Array, ''] | float
) -> Float[Array, '*b h w c']:
    """Scales the distance to each channel's mean over the image by `factor`."""
    mean = image.mean(axis=(-3, -2), keepdims=True)
    return _clip((image - mean) * factor + mean)


def saturation(
    image: Float[Array, '*b h w 3'], factor: Float[Array, ''] | float
) -> Float[Array, '*b h w 3']:
    """Multiplies the S of HSV by `factor`, at most 1.

    A channel is V (1 - S t), where t depends on hue alone: scaling S scales the distance to V.
    """
    value = image.max(axis=-1, keepdims=True)
    chroma = value - image.min(axis=-1, keepdims=True)
    scale = jnp.minimum(factor, value / jnp.where(chroma > 0, chroma, 1.0))
    return _clip(value - (value - image) * scale)


def hue(
    image: Float[Array, '*b h w 3'], delta: Float[Array, ''] | float
) -> Float[Array, '*b h w 3']:
    """Turns the hue by `delta` turns of the colour circle."""
    h, s, v = jnp.moveaxis(rgb_to_hsv(image), -1, 0)
    return _clip(hsv_to_rgb(jnp.stack([h + delta, s, v], axis=-1)))


def to_grey(image: Float[Array, '*b h w 3']) -> Float[Array, '*b h w 3']:
    """Replaces the three channels by their luma."""
    r, g, b = jnp.moveaxis(image, -1, 0)
    luma = GREY_WEIGHTS[0] * r + GREY_WEIGHTS[1] * g + GREY_WEIGHTS[2] * b
    return jnp.broadcast_to(luma[..., None], image.shape)


def rgb_to_hsv(image: Float[Array, '*b 3']) -> Float[Array, '*b 3']:
    """Hue, saturation and value, all in [0, 1]; the hue of a grey is 0 (Smith 1978)."""
    r, g, b = jnp.moveaxis(image, -1, 0)
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    per_chroma = 1 / jnp.where(chroma > 0, chroma, 1.0)
    sixths = jnp.where(
        value == r,
        (g - b) * per_chroma,
        jnp.where(value == g, 2 + (b - r) * per_chroma, 4 + (r - g) * per_chroma),
    )
    turns = jnp.where(sixths < 0, sixths + 6, sixths) / 6
    return jnp.stack([turns, chroma / jnp.where(value > 0, value, 1.0), value], axis=-1)


def hsv_to_rgb(image: Float[Array, '*b 3']) -> Float[Array, '*b 3']:
    """Inverse of `rgb_to_hsv`; a hue outside [0, 1] is taken modulo one turn."""
    h, s, v = jnp.moveaxis(image, -1, 0)
    chroma = v * s

    def channel(offset: float) -> Float[Array, '*b']:
        sixths = jnp.mod(6 * h + offset, 6.0)
        return v - chroma * jnp.clip(jnp.minimum(sixths, 4 - sixths), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def jitter(
    image: Float[Array, '*b h w c'],
    factors: Float[Array, ' 4'],
    order: Int[Array, ' 4'],
) -> Float[Array, '*b h w c']:
    """Applies brightness, contrast, saturation and hue in the given order.

    Args:
      image: c is 1 (grey: saturation and hue leave it as it is, and are not compiled) or 3.
      factors: of brightness, contrast, saturation, and the hue's delta; see `jitter_factors`.
      order: a permutation of 0..3. Under `vmap` it must not be mapped: one order for the whole
        batch makes every step run one branch, of four compiled ones.
    """
    operations = [brightness, contrast, saturation, hue]
    if image.shape[-1] == 1:
        operations[2:] = [lambda image, factor: image] * 2

    def apply(image: Float[Array, '*b h w c'], operation: Int[Array, '']) -> tuple[Array, None]:
        return jax.lax.switch(operation, operations, image, factors[operation]), None

    return jax.lax.scan(apply, image, order)[0]


def jitter_factors(uniforms: Float[Array, ' 4'], strength: float) -> Float[Array, ' 4']:
    """Turns four uniforms in [0, 1) into the factors of `jitter`.

    Brightness, contrast and saturation lie within 0.8 strength of 1 (and not below 0), the hue's
    delta within 0.2 strength of 0 (SimCLR, appendix A).
    """
    reach, turn = 0.8 * strength, 0.2 * strength
    low = jnp.array([max(0.0, 1 - reach)] * 3 + [-turn])
    high = jnp.array([1 + reach] * 3 + [turn])
    return low + uniforms * (high - low)


def _clip(image: Float[Array, '*b']) -> Float[Array, '*b']:
    return jnp.clip(image, 0.0, 1.0)
