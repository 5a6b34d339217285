"""NT-Xent, the contrastive loss of SimCLR and MICLe, over the global batch in linear memory."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

NO_NEGATIVE = -1e30  # finite, so that no subtraction of two of them gives NaN
EXACT = {'precision': jax.lax.Precision.HIGHEST, 'preferred_element_type': jnp.float32}


def nt_xent(
    z: Float[Array, 'b v d'],
    groups: Int[Array, ' b'],
    temperature: float,
    *,
    mesh: Mesh,
    axis: str = 'data',
    block: int = 1024,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the loss and its metrics for v >= 2 views of each of b examples.

    With s the cosine similarity over `temperature`, an anchor (i, u) and another view w of the same
    example contribute

      -log( exp(s_uw) / (exp(s_uw) + sum over negatives n of exp(s_un)) ).

    Negatives are all views of the examples of another group; the anchor's other positives are in
    neither sum. The loss is the mean over the b * v * (v - 1) ordered positive pairs. Chen et al.
    2020 (arXiv:2002.05709), eq. 1, is the case of two views and as many groups as examples. Where
    all examples are of one group no anchor has a negative, and loss and gradient are 0.

    Each device compares its own anchors with the gathered batch, tile by tile: one all-gather
    forward, one reduce-scatter backward, and never more than `block` x `block` similarities.

    Args:
      z: projections in any float dtype, sharded over `axis`; the loss normalises them itself, in
        float32. A zero vector stays zero and has a finite gradient.
      groups: examples with equal codes are never each other's negatives (the same patient, say).
        Of the global batch and replicated; `arange(b)` masks nothing but the example itself.
      temperature: positive; stable down to 0.01.
      mesh: its axis `axis` must divide b.
      axis: the mesh axis of the batch.
      block: side of a tile, in views.

    Returns:
      The loss, float32, and `contrastive_top1`, the share of ordered positive pairs more similar
      than all negatives of the anchor, and `anchors`, the share of anchors with a negative. That
      is 1, or 0 where all groups are equal: two groups suffice to give every anchor a negative.

    Raises:
      ValueError: for shapes that are not [b, v >= 2, d] and [b].
    """
    if z.ndim != 3 or z.shape[1] < 2 or groups.shape != z.shape[:1]:
        raise ValueError(f'expected z [b, v >= 2, d] and groups [b], got {z.shape}, {groups.shape}')
    local = functools.partial(_local_loss, temperature=temperature, axis=axis, block=block)
    batch, everywhere = PartitionSpec(axis), PartitionSpec()
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(batch, everywhere), out_specs=everywhere)
    return sharded(z, groups)


def _local_loss(z, groups, *, temperature, axis, block):
    """The share of one device's anchors, summed over devices at the end."""
    examples, views, dim = z.shape
    z = _normalise(z)
    everyone = jax.lax.all_gather(z, axis, tiled=True)
    own_groups = jax.lax.dynamic_slice_in_dim(groups, jax.lax.axis_index(axis) * examples, examples)
    hardest, log_negatives = _compare_with_negatives(
        z.reshape(-1, dim),
        jnp.repeat(own_groups, views),
        everyone.reshape(-1, dim),
        jnp.repeat(groups, views),
        temperature,
        block,
        axis,
    )
    per_view = (examples, views, 1)
    positives = jnp.einsum('iud,iwd->iuw', z, z, **EXACT) / temperature
    losses = jax.nn.softplus(log_negatives.reshape(per_view) - positives)
    wins = (jax.lax.stop_gradient(positives) > hardest.reshape(per_view)).astype(jnp.float32)

    pairs = 1 - jnp.eye(views)[None]
    has_negatives = jnp.any(groups != groups[0]).astype(jnp.float32)
    sums = jax.lax.psum(jnp.stack([jnp.sum(losses * pairs), jnp.sum(wins * pairs)]), axis)
    loss, top1 = sums / (groups.size * views * (views - 1)) * has_negatives
    return loss, {'contrastive_top1': jax.lax.stop_gradient(top1), 'anchors': has_negatives}


def _compare_with_negatives(
    rows: Float[Array, 'm d'],
    row_groups: Int[Array, ' m'],
    columns: Float[Array, 'n d'],
    column_groups: Int[Array, ' n'],
    temperature: float,
    block: int,
    axis: str,
) -> tuple[Float[Array, ' m'], Float[Array, ' m']]:
    """Returns each row's largest negative similarity and the log-sum-exp over its negatives.

    The running maximum and sum of Milakov and Gimelshein 2018 (arXiv:1805.02867), over tiles that
    the backward pass computes again instead of keeping.
    """
    row_tiles = _tiles((rows, row_groups), block)[0]
    column_tiles = _tiles((columns, column_groups), block)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def compare_rows(tile):
        z, groups = tile

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def add_columns(carry, columns):
            maximum, total = carry
            (other_z, other_groups), real = columns
            similarity = jnp.einsum('md,nd->mn', z, other_z, **EXACT) / temperature
            negative = (groups[:, None] != other_groups[None]) & real[None]
            similarity = jnp.where(negative, similarity, NO_NEGATIVE)
            higher = jnp.maximum(maximum, jax.lax.stop_gradient(similarity.max(axis=1)))
            total = total * jnp.exp(maximum - higher) + jnp.exp(similarity - higher[:, None]).sum(
                axis=1
            )
            return (higher, total), None

        start = jnp.full(groups.shape, NO_NEGATIVE), jnp.zeros(groups.shape)
        start = jax.lax.pcast(start, axis, to='varying')
        (maximum, total), _ = jax.lax.scan(add_columns, start, column_tiles)
        return maximum, maximum + jnp.log(total)

    maximum, log_sum = jax.lax.map(compare_rows, row_tiles)
    return maximum.reshape(-1)[: len(rows)], log_sum.reshape(-1)[: len(rows)]


def _tiles(arrays, block: int) -> tuple[tuple, Bool[Array, 'tiles block']]:
    """Cuts axis 0 into tiles, the last padded with zeros, and says which entries are real."""
    size = len(arrays[0])
    block = min(block, size)
    count = -(-size // block)

    def cut(array):
        padding = [(0, count * block - size)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(count, block, *array.shape[1:])

    return tuple(map(cut, arrays)), cut(jnp.ones(size, bool))


def _normalise(z: Float[Array, '... d']) -> Float[Array, '... d']:
    """Unit length in float32; the floor under the squared norm is that of tf.math.l2_normalize."""
    z = z.astype(jnp.float32)
    return z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), 1e-12))
