"""A convolution that is quick on a CPU too.

There a kernel of one pixel is a matrix product, and so is one that is larger than what it makes,
both ways: XLA has plain loops for that, which take forty times as long (BUILD_NOTES.md has the
times). All other convolutions are XLA's own, of an array that is in memory. Accelerators get XLA's.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def conv_general_dilated(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'kh kw c k'],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> Float[Array, 'n h2 w2 k']:
    """`jax.lax.conv_general_dilated` of two axes in layout NHWC, HWIO; for `flax.linen.Conv` too.

    Args:
      padding: as there.
      options: as there; they must be the defaults, but for `precision`.

    Raises:
      ValueError: an option is not the default.
    """
    precision = options.pop('precision', None)
    for name, value in options.items():
        if name != 'dimension_numbers' and value not in (None, 1, (1, 1)):
            raise ValueError(f'{name}={value} is not supported')
    size = kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], size, window_strides, padding)
    padded = (length + sum(pad) for length, pad in zip(x.shape[1:3], padding))
    out = [(p - k) // stride + 1 for p, k, stride in zip(padded, size, window_strides)]

    def convolution(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, window_strides, padding, dimension_numbers=_LAYOUT, precision=precision
        )

    def product(x: Array, kernel: Array) -> Array:
        matrix = kernel.reshape(-1, kernel.shape[-1])
        patches = _patches(x, size, out, window_strides, padding)
        found = jnp.dot(patches.reshape(-1, len(matrix)), matrix, precision=precision)
        return found.reshape(*patches.shape[:3], kernel.shape[-1])

    if size != (1, 1) and any(k <= length for k, length in zip(size, out)):
        return convolution(_in_memory(x), kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=product, default=convolution)


@jax.custom_jvp
def _in_memory(x: Float[Array, 'n h w c']) -> Float[Array, 'n h w c']:
    """The same, on a CPU as an array that is computed once.

    What is cheap, a normalisation and a ReLU, XLA computes anew for each that reads it, and the
    kernel's gradient reads it transposed, in long strides. A division it does not repeat; one by 1
    changes no bit of what is finite, and that this is 1 it cannot know.
    """
    return jax.lax.platform_dependent(x, cpu=lambda x: x / (1 + 0 * x), default=lambda x: x)


_in_memory.defjvps(lambda tangent, out, x: tangent)


def _patches(
    x: Float[Array, 'n h w c'],
    size: Sequence[int],
    out: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
) -> Float[Array, 'n h2 w2 kh*kw*c']:
    """What lies under the kernel at each place of the output."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = (
        [slice(i, i + (places - 1) * stride + 1, stride) for i in range(width)]
        for width, places, stride in zip(size, out, strides)
    )
    return jnp.concatenate([x[:, row, column] for row in rows for column in columns], axis=-1)
