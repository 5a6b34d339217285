"""Sums over all pairs of rows and columns in linear memory, tile by tile."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

NOTHING = -1e30  # finite, so that no subtraction of two of them gives NaN


def sum_over_columns(add, start, rows, columns, *, axis: str, block: int):
    """Returns for every row what `add` makes of `start` and, tile by tile, of all columns.

    The backward pass computes the tiles again instead of keeping them. Runs inside a shard_map.

    Args:
      add: (sums, row tile, column tile, real) -> sums. `real` [n'] is false for the columns that
        fill up the last tile; those are zeros, and must not count.
      start: numbers, the sums of a row before the first column.
      rows: arrays [m, ...]; a row tile is a part of each.
      columns: arrays [n, ...], likewise.
      axis: the mesh axis that the rows differ over.
      block: side of a tile.

    Returns:
      An array [m] for each number of `start`.
    """
    size = len(rows[0])
    row_tiles = _tiles(rows, block)[0]
    column_tiles = _tiles(columns, block)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def sum_rows(rows):
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def add_columns(sums, tile):
            columns, real = tile
            return add(sums, rows, columns, real), None

        sums = tuple(jnp.full(len(rows[0]), number) for number in start)
        sums = jax.lax.pcast(sums, axis, to='varying')
        return jax.lax.scan(add_columns, sums, column_tiles)[0]

    return tuple(sums.reshape(-1)[:size] for sums in jax.lax.map(sum_rows, row_tiles))


def add_exponentials(
    maximum: Float[Array, ' m'], total: Float[Array, ' m'], scores: Float[Array, 'm n']
) -> tuple[Float[Array, ' m'], Float[Array, ' m']]:
    """Adds a tile to the running maximum and sum of Milakov and Gimelshein 2018 (arXiv:1805.02867).

    They start as NOTHING and 0, and maximum + log(total) is the log-sum-exp of all scores in the
    end. A score of NOTHING does not count beside any other.
    """
    higher = jnp.maximum(maximum, jax.lax.stop_gradient(scores.max(axis=1)))
    added = jnp.exp(scores - higher[:, None]).sum(axis=1)
    return higher, total * jnp.exp(maximum - higher) + added


def _tiles(arrays, block: int) -> tuple[tuple, Bool[Array, 'tiles block']]:
    """Cuts axis 0 into tiles, the last padded with zeros, and says which entries are real."""
    size = len(arrays[0])
    block = min(block, size)
    count = -(-size // block)

    def cut(array):
        padding = [(0, count * block - size)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(count, block, *array.shape[1:])

    return tuple(map(cut, arrays)), cut(jnp.ones(size, bool))
