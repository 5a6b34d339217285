"""Gaussian blur of SimCLR, as two products with banded matrices."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def blur(
    image: Float[Array, 'h w c'], sigma: Float[Array, ''], applied: Bool[Array, '']
) -> Float[Array, 'h w c']:
    """Convolves with a Gaussian of `sigma` pixels where `applied`, else returns the image.

    The kernel is 2 r + 1 long with r = (h // 10) // 2, is normalised, and meets zeros outside the
    image, so that borders darken (SimCLR's code: a depthwise convolution padded 'SAME').
    """
    height, width, _ = image.shape
    rows = _banded(height, height // 10 // 2, sigma, applied)
    columns = _banded(width, height // 10 // 2, sigma, applied)
    highest = jax.lax.Precision.HIGHEST
    image = jnp.einsum('ih,hwc->iwc', rows, image, precision=highest)
    return jnp.einsum('jw,iwc->ijc', columns, image, precision=highest)


def _banded(
    side: int, radius: int, sigma: Float[Array, ''], applied: Bool[Array, '']
) -> Float[Array, 'side side']:
    """The matrix of a convolution along one side; the identity where not `applied`."""
    position = jnp.arange(side)
    distance = jnp.abs(position[:, None] - position[None, :])
    weight = jnp.where(distance <= radius, _gaussian(distance, sigma), 0.0)
    weight /= _gaussian(jnp.arange(-radius, radius + 1), sigma).sum()
    return jnp.where(applied, weight, jnp.eye(side))


def _gaussian(distance: Array, sigma: Float[Array, '']) -> Array:
    return jnp.exp(-(distance.astype(jnp.float32) ** 2) / (2 * sigma**2))
