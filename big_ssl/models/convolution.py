"""A convolution that is quick on a CPU too, its gradient above all.

XLA computes the gradient with respect to the kernel as a convolution with a kernel as large as the
image, at a fifth to a half of the forward speed on a CPU. There it is matrix products here, of the
patches under the kernel with the gradient of the output, some images at a time, so that patches
stay in the cache. Likewise where an image is hardly larger than the kernel: XLA takes forty times
as long (BUILD_NOTES.md has the times). Accelerators, and a CPU that stands for several devices, get
XLA's own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Strides = tuple[int, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]
_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
_CACHE = 2**22  # bytes of patches at once
_NARROW = 128  # columns of a matrix, below which its product is slow
_SMALL = 3  # pixels in height or width of an image that XLA's convolution is slow on


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
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    (top, bottom), (left, right) = padding
    return _convolve(x, kernel, strides, ((top, bottom), (left, right)), precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: Array, kernel: Array, strides: Strides, pads: Pads, precision: Any) -> Array:
    settings = {'strides': strides, 'pads': pads, 'precision': precision}
    plain = functools.partial(_plain, **settings)
    product = functools.partial(_product, **settings)
    return _on_cpu(product if _is_small(x, kernel) else plain, plain, x, kernel)


def _forward(x: Array, kernel: Array, strides: Strides, pads: Pads, precision: Any) -> Any:
    return _convolve(x, kernel, strides, pads, precision), (x, kernel)


def _backward(
    strides: Strides, pads: Pads, precision: Any, kept: tuple[Array, Array], out: Array
) -> tuple[Array, Array]:
    settings = {'strides': strides, 'pads': pads, 'precision': precision}

    def of_x(convolve: Any, x: Array, kernel: Array, out: Array) -> Array:
        return jax.linear_transpose(lambda x: convolve(x, kernel, **settings), x)(out)[0]

    def of_kernel(x: Array, kernel: Array, out: Array) -> Array:
        return jax.linear_transpose(lambda kernel: _plain(x, kernel, **settings), kernel)(out)[0]

    plain, product = (functools.partial(of_x, convolve) for convolve in (_plain, _product))
    return (
        _on_cpu(product if _is_small(*kept) else plain, plain, *kept, out),
        _on_cpu(functools.partial(_kernel_gradient, **settings), of_kernel, *kept, out),
    )


_convolve.defvjp(_forward, _backward)


def _is_small(x: Array, kernel: Array) -> bool:
    """Whether XLA's convolution is slow for want of pixels; one of a single pixel never is."""
    return min(x.shape[1:3]) <= _SMALL and kernel.shape[:2] != (1, 1)


def _on_cpu(here: Callable[..., Array], elsewhere: Callable[..., Array], *arrays: Array) -> Array:
    if here is elsewhere or jax.device_count() > 1:
        return elsewhere(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=here, default=elsewhere)


def _plain(x: Array, kernel: Array, *, strides: Strides, pads: Pads, precision: Any) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=_LAYOUT, precision=precision
    )


def _product(x: Array, kernel: Array, *, strides: Strides, pads: Pads, precision: Any) -> Array:
    """The convolution as the product of all patches with the kernel."""
    sizes = zip(x.shape[1:3], kernel.shape, strides, pads)
    out = tuple((size + sum(pad) - k) // stride + 1 for size, k, stride, pad in sizes)
    patches = jnp.concatenate(_patches(x, kernel.shape, out, strides, pads), axis=1)
    found = jnp.dot(patches, kernel.reshape(-1, kernel.shape[-1]), precision=precision)
    return found.reshape(len(x), *out, -1)


def _kernel_gradient(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'kh kw c k'],
    out: Float[Array, 'n h2 w2 k'],
    *,
    strides: Strides,
    pads: Pads,
    precision: Any,
) -> Float[Array, 'kh kw c k']:
    """Sum over all places of the patch under the kernel times the gradient of the output there."""
    height, width, channels, features = kernel.shape
    at_once = _divisor(len(x), _CACHE // (4 * out[0, ..., 0].size * width * channels))

    def add(total: Array, images: tuple[Array, Array]) -> tuple[Array, None]:
        part, gradient = images
        factor = gradient.reshape(-1, features)
        products = [
            jax.lax.dot_general(factor, some, (((0,), (0,)), ((), ())), precision=precision)
            for some in _patches(part, kernel.shape, gradient.shape[1:3], strides, pads)
        ]
        return total + jnp.concatenate(products, axis=1), None

    parts = x.reshape(-1, at_once, *x.shape[1:]), out.reshape(-1, at_once, *out.shape[1:])
    start = jnp.zeros((features, height * width * channels), x.dtype)
    total, _ = jax.lax.scan(add, start, parts)
    return total.T.reshape(kernel.shape)


def _patches(
    x: Float[Array, 'n h w c'],
    kernel: tuple[int, ...],
    out: tuple[int, ...],
    strides: Strides,
    pads: Pads,
) -> list[Float[Array, 'n*h2*w2 _']]:
    """What lies under the kernel at each place of the output: by its rows, or whole if narrow.

    Barriers keep XLA from looking up the padding anew for every element.
    """
    rows, columns = (
        [slice(i, i + (count - 1) * stride + 1, stride) for i in range(size)]
        for size, count, stride in zip(kernel[:2], out, strides)
    )
    x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *pads, (0, 0))))
    wide = jax.lax.optimization_barrier(jnp.concatenate([x[:, :, c] for c in columns], axis=-1))
    parts = [wide[:, row] for row in rows]
    if wide.shape[-1] < _NARROW:
        parts = [jax.lax.optimization_barrier(jnp.concatenate(parts, axis=-1))]
    return [part.reshape(-1, part.shape[-1]) for part in parts]


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number that is not above a limit, and 1 at least."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(at_most, 1))
