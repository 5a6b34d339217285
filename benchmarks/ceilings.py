"""What the device gives at most: a large matrix product, and a large copy within its memory."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from benchmarks.timing import timed


def measured(side: int, size: int, seconds: float, repeats: int) -> dict[str, float]:
    """The better of the repeats: operations a second of a bfloat16 product, bytes a second copied.

    Args:
      side: of the square matrices, which are random: products of zeros draw less power and can be
        faster.
      size: bytes that are copied; each is read once and written once, and both count.
    """
    left, right = jax.random.normal(jax.random.key(0), (2, side, side), jnp.bfloat16)
    product = jax.jit(jnp.matmul)
    array = jax.random.normal(jax.random.key(1), (size // 4,), jnp.float32)
    copy = jax.jit(jnp.copy)

    def products(count: int) -> None:
        for _ in range(count):
            out = product(left, right)
        out.block_until_ready()

    def copies(count: int) -> None:
        for _ in range(count):
            out = copy(array)
        out.block_until_ready()

    return {
        'flops_per_second': 2 * side**3 / min(timed(products, seconds, repeats)),
        'bytes_per_second': 2 * array.nbytes / min(timed(copies, seconds, repeats)),
    }


def shares(
    flops: float, moved: float, seconds: float, ceilings: Mapping[str, float]
) -> dict[str, float]:
    """What a step of `seconds` reaches of each ceiling, and the least time that both allow.

    Args:
      flops: of a step.
      moved: bytes that it reads and writes.
      ceilings: of `measured`.
    """
    computing = flops / ceilings['flops_per_second']
    moving = moved / ceilings['bytes_per_second']
    return {
        'flops_share': computing / seconds,
        'bytes_share': moving / seconds,
        'least_seconds': max(computing, moving),
    }
