"""SupCon: images of one class are positives of each other, as far as classes are known.

Khosla et al. 2020 (arXiv:2004.11362), eq. 2. An image without a label, or one that
`label_fraction` leaves out, has its own views as positives, as with SimCLR.
"""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.losses.float32 import EXACT, normalise
from big_ssl.losses.tiles import NOTHING, add_exponentials, sum_over_columns
from big_ssl.methods import Method, simclr
from big_ssl.methods.simclr import KEYS, TASK

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']

LABELS = 'some'


def check(config: ConfigDict) -> None:
    simclr.check(config)
    if config.labels.kind != 'single':
        raise InputError('config: method.name=supcon needs one class an image, labels.kind=single')


class SupCon(simclr.SimCLR):
    figures: ClassVar = {
        'loss': 'SupCon loss (nats)',
        'contrastive_top1': 'own view beats all negatives',
        'positives': 'positives an anchor',
    }
    title = Method.title
    name: ClassVar = 'SupCon'

    def contrast(self, z: Any, groups: Any, views: Any) -> Any:
        labels = views.each['targets']
        return supcon(z, labels, groups, self.config.method.temperature, mesh=self.mesh)


def supcon(
    z: Float[Array, 'b v d'],
    labels: Int[Array, ' b'],
    groups: Int[Array, ' b'],
    temperature: float,
    *,
    mesh: Mesh,
    axis: str = 'data',
    block: int = 1024,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the loss and its figures for v >= 2 views of each of b examples.

    With s the cosine similarity over `temperature`, an anchor a contributes the mean over its
    positives p of

      -log( exp(s_ap) / sum over A(a) of exp(s_an) ),

    and the loss is the mean over the b * v anchors: L_out of Khosla et al. 2020 (arXiv:2004.11362),
    eq. 2. Positives are the other views of the anchor's example and all views of the examples with
    its label, of whichever group. A(a) is the positives and all views of the examples of another
    group; examples of the anchor's group whose label differs or is not known are in neither sum.
    With two views, no label known and as many groups as examples it is NT-Xent.

    Each device compares its own anchors with the gathered batch, tile by tile: one all-gather
    forward, one reduce-scatter backward, and never more than `block` x `block` similarities.

    Args:
      z: projections in any float dtype, sharded over `axis`; the loss normalises them itself, in
        float32. A zero vector stays zero and has a finite gradient.
      labels: classes, below 0 where not known. Of the global batch and replicated, as `groups`.
      groups: the patient, say. `arange(b)` takes no example out of the denominators.
      temperature: positive; stable down to 0.01.
      mesh: its axis `axis` must divide b.
      axis: the mesh axis of the batch.
      block: side of a tile, in views.

    Returns:
      The loss, float32, and `contrastive_top1`, the share of ordered pairs of views of one example
      more similar than all views that are no positives of the anchor, those of its group included
      (an anchor without any counts as none), and `positives`, the mean number of an anchor.

    Raises:
      ValueError: for shapes that are not [b, v >= 2, d], [b] and [b].
    """
    if z.ndim != 3 or z.shape[1] < 2 or not labels.shape == groups.shape == z.shape[:1]:
        raise ValueError(
            f'expected z [b, v >= 2, d], labels [b] and groups [b], '
            f'got {z.shape}, {labels.shape}, {groups.shape}'
        )
    local = functools.partial(_local_loss, temperature=temperature, axis=axis, block=block)
    batch, everywhere = PartitionSpec(axis), PartitionSpec()
    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(batch, everywhere, everywhere), out_specs=everywhere
    )
    return sharded(z, labels, groups)


def _local_loss(z, labels, groups, *, temperature, axis, block):
    """The share of one device's anchors, summed over devices at the end."""
    examples, views, dim = z.shape
    z = normalise(z)
    everyone = jax.lax.all_gather(z, axis, tiled=True).reshape(-1, dim)
    view = jnp.arange(len(everyone))
    codes = view, view // views, jnp.repeat(labels, views), jnp.repeat(groups, views)
    first = jax.lax.axis_index(axis) * examples * views
    own_codes = (jax.lax.dynamic_slice_in_dim(code, first, examples * views) for code in codes)

    def add(sums, row, column, real):
        maximum, total, hardest, attraction, positives = sums
        similarity = jnp.einsum('md,nd->mn', row[0], column[0], **EXACT) / temperature
        same_view, same_example, same_label, same_group = (
            code[:, None] == other[None] for code, other in zip(row[1:], column[1:])
        )
        alike = same_example | (same_label & (row[3] >= 0)[:, None])
        positive = alike & ~same_view & real[None]
        compared = positive | (~same_group & real[None])
        maximum, total = add_exponentials(maximum, total, jnp.where(compared, similarity, NOTHING))
        others = jnp.where(alike | ~real[None], NOTHING, jax.lax.stop_gradient(similarity))
        return (
            maximum,
            total,
            jnp.maximum(hardest, others.max(axis=1)),
            attraction + jnp.where(positive, similarity, 0.0).sum(axis=1),
            positives + positive.sum(axis=1, dtype=jnp.float32),
        )

    maximum, total, hardest, attraction, positives = sum_over_columns(
        add,
        (NOTHING, 0.0, NOTHING, 0.0, 0.0),
        (z.reshape(-1, dim), *own_codes),
        (everyone, *codes),
        axis=axis,
        block=block,
    )
    losses = maximum + jnp.log(total) - attraction / positives

    z, hardest = jax.lax.stop_gradient((z, hardest.reshape(examples, views, 1)))
    own = jnp.einsum('iud,iwd->iuw', z, z, **EXACT) / temperature
    wins = (own > hardest) & (hardest > NOTHING) & ~jnp.eye(views, dtype=bool)[None]
    sums = jnp.stack([jnp.sum(losses), jnp.sum(wins) / (views - 1), jnp.sum(positives)])
    loss, top1, positives = jax.lax.psum(sums, axis) / len(everyone)
    return loss, jax.lax.stop_gradient({'contrastive_top1': top1, 'positives': positives})


make = SupCon
