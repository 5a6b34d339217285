"""Flips, rotation, and a crop that is resized, all on one image."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, UInt8


def flip(
    image: Float[Array, 'h w c'], applied: Bool[Array, ''], axis: int
) -> Float[Array, 'h w c']:
    """Mirrors top-bottom (axis 0) or left-right (axis 1) where `applied`."""
    return jnp.where(applied, jnp.flip(image, axis), image)


def rotate(
    image: Float[Array, 'h w c'], degrees: Float[Array, ''], fill: float = 0.0
) -> Float[Array, 'h w c']:
    """Turns the image's content counter-clockwise about its centre, bilinearly.

    Pixels beyond the border count as `fill` in the interpolation.
    """
    height, width, _ = image.shape
    angle = jnp.deg2rad(degrees)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    y = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    source_y = cos * y + sin * x + (height - 1) / 2
    source_x = cos * x - sin * y + (width - 1) / 2
    top, left = jnp.floor(source_y), jnp.floor(source_x)
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]

    def corner(dy: int, dx: int) -> Float[Array, 'h w c']:
        # One past the border is enough: every farther pixel is `fill` as well.
        row = jnp.clip(top + dy, -1, height).astype(jnp.int32) + 1
        column = jnp.clip(left + dx, -1, width).astype(jnp.int32) + 1
        return padded[row, column]

    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    above = corner(0, 0) * (1 - right) + corner(0, 1) * right
    below = corner(1, 0) * (1 - right) + corner(1, 1) * right
    return above * (1 - down) + below * down


def crop_and_resize(
    image: UInt8[Array, 'h w c'] | Float[Array, 'h w c'], box: Float[Array, ' 4'], size: int
) -> Float[Array, 'size size c']:
    """Resamples a box of the image to a square, with an antialiased triangle kernel.

    Args:
      image: uint8 or float; the values keep their scale.
      box: y, x, height, width in pixels, inside the image; fractions are allowed.
      size: side of the result.

    The result is that of Pillow's `resize(..., BILINEAR, box=...)` before its rounding. The
    kernel of a border pixel reaches over the box's edge into the image, as in Pillow;
    `tf.image.resize` of a slice stops at the edge, which changes the outermost pixels alone.
    """
    origin, extent = box[:2], box[2:]
    scale = size / extent
    return jax.image.scale_and_translate(
        image.astype(jnp.float32),
        shape=(size, size, image.shape[-1]),
        spatial_dims=(0, 1),
        scale=scale,
        translation=-origin * scale,
        method='linear',
        antialias=True,
        precision=jax.lax.Precision.HIGHEST,
    )
