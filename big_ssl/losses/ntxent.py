"""NT-Xent, the loss of SimCLR and MICLe, and DCL, over the global batch in linear memory."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int

from big_ssl.losses.float32 import EXACT, normalise
from big_ssl.losses.tiles import NOTHING, add_exponentials, sum_over_columns


def nt_xent(
    z: Float[Array, 'b v d'],
    groups: Int[Array, ' b'],
    temperature: float,
    *,
    mesh: Mesh,
    axis: str = 'data',
    block: int = 1024,
    decoupled: bool = False,
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
      decoupled: leaves exp(s_uw) out of its own denominator, which holds negatives alone: DCL of
        Yeh et al. 2021 (arXiv:2110.06848), eq. 5 and 6, without weights. It may be below 0.

    Returns:
      The loss, float32, and `contrastive_top1`, the share of ordered positive pairs more similar
      than all negatives of the anchor, and `anchors`, the share of anchors with a negative. That
      is 1, or 0 where all groups are equal: two groups suffice to give every anchor a negative.

    Raises:
      ValueError: for shapes that are not [b, v >= 2, d] and [b].
    """
    if z.ndim != 3 or z.shape[1] < 2 or groups.shape != z.shape[:1]:
        raise ValueError(f'expected z [b, v >= 2, d] and groups [b], got {z.shape}, {groups.shape}')
    local = functools.partial(
        _local_loss, temperature=temperature, axis=axis, block=block, decoupled=decoupled
    )
    batch, everywhere = PartitionSpec(axis), PartitionSpec()
    sharded = jax.shard_map(local, mesh=mesh, in_specs=(batch, everywhere), out_specs=everywhere)
    return sharded(z, groups)


def _local_loss(z, groups, *, temperature, axis, block, decoupled):
    """The share of one device's anchors, summed over devices at the end."""
    examples, views, dim = z.shape
    z = normalise(z)
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
    losses = log_negatives.reshape(per_view) - positives
    if not decoupled:
        losses = jax.nn.softplus(losses)
    wins = (jax.lax.stop_gradient(positives) > hardest.reshape(per_view)).astype(jnp.float32)

    pairs = 1 - jnp.eye(views)[None]
    has_negatives = jnp.any(groups != groups[0])
    sums = jax.lax.psum(jnp.stack([jnp.sum(losses * pairs), jnp.sum(wins * pairs)]), axis)
    loss, top1 = jnp.where(has_negatives, sums / (groups.size * views * (views - 1)), 0.0)
    metrics = {'contrastive_top1': top1, 'anchors': has_negatives.astype(jnp.float32)}
    return loss, jax.lax.stop_gradient(metrics)


def _compare_with_negatives(
    rows: Float[Array, 'm d'],
    row_groups: Int[Array, ' m'],
    columns: Float[Array, 'n d'],
    column_groups: Int[Array, ' n'],
    temperature: float,
    block: int,
    axis: str,
) -> tuple[Float[Array, ' m'], Float[Array, ' m']]:
    """Returns each row's largest negative similarity and the log-sum-exp over its negatives."""

    def add(sums, row, column, real):
        (z, groups), (other_z, other_groups) = row, column
        similarity = jnp.einsum('md,nd->mn', z, other_z, **EXACT) / temperature
        negative = (groups[:, None] != other_groups[None]) & real[None]
        return add_exponentials(*sums, jnp.where(negative, similarity, NOTHING))

    maximum, total = sum_over_columns(
        add, (NOTHING, 0.0), (rows, row_groups), (columns, column_groups), axis=axis, block=block
    )
    return maximum, maximum + jnp.log(total)
