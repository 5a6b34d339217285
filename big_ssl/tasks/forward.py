"""Views through the network in training: the whole batch at once, or part by part (GradCache).

Gao et al. 2021 (arXiv:2101.06983): a contrastive loss needs the projections of the whole batch, but
not its activations. The projections of each part are computed and its activations dropped; the
gradient of the loss with respect to all projections then goes back through each part, computed once
more. Automatic differentiation of a rematerialised loop is exactly that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Shaped
from ml_collections import ConfigDict

from big_ssl.data import feed
from big_ssl.data.batches import Batch
from big_ssl.errors import InputError
from big_ssl.train.mesh import BATCH_AXIS


def check_chunks(config: ConfigDict, mesh: Mesh) -> None:
    """Raises InputError if the batch does not divide over the devices and `config.chunks`."""
    if config.batch_size % (mesh.size * config.chunks):
        raise InputError(
            f'config: batch_size={config.batch_size} does not divide over {mesh.size} devices in '
            f'chunks={config.chunks}; it must be a multiple of {mesh.size * config.chunks}'
        )


@dataclasses.dataclass(frozen=True)
class Views:
    """The augmented views of a batch, on their way through networks.

    Attributes:
      config: of the run.
      batch: as it is drawn.
      step: of training, from which colours are drawn.
      mesh: the devices over which the batch lies.
    """

    config: ConfigDict
    batch: Batch
    step: Array
    mesh: Mesh

    @property
    def groups(self) -> Int[Array, ' b']:
        """Examples of equal groups are of one patient; replicated."""
        return self.batch.groups

    @property
    def each(self) -> Mapping[str, Shaped[Array, 'b ...']]:
        """What is known of each example: `targets`, for a method that asks for labels."""
        return self.batch.each

    def through(
        self, network: nn.Module, params: Any, batch_stats: Any, output: str, train: bool = True
    ) -> tuple[Float[Array, 'b v d'], Any]:
        """One of a network's outputs for each view, and its new batch statistics.

        With `config.chunks` parts, memory is that of one part, and the gradient that of the whole
        batch under batch statistics of each part (over all devices), whose running averages are the
        mean of the parts'. With `model.batch_norm=frozen` nothing in the network depends on the
        other examples of a batch, and the number of parts changes nothing.

        Args:
          network: images, train → dictionary of arrays.
          params, batch_stats: of the network.
          output: a name in that dictionary.
          train: normalise by the statistics of this batch, unless they are frozen.
        """
        learns = train and self.config.model.batch_norm == 'batch'

        def apply(part: Batch) -> tuple[Array, Any]:
            with jax.named_scope('augment'):
                images = feed.augmented(self.config, part, self.step)
            b, v, *shape = images.shape
            found, updates = network.apply(
                {'params': params, 'batch_stats': batch_stats},
                images.reshape(b * v, *shape),
                train=learns,
                mutable=['batch_stats'] if learns else [],
            )
            return found[output].reshape(b, v, -1), updates.get('batch_stats', batch_stats)

        batch, chunks = self.batch, self.config.chunks
        if chunks == 1:
            return apply(batch)
        out, statistics = _in_chunks(
            lambda part: apply(dataclasses.replace(batch, each=part)), batch.each, chunks, self.mesh
        )
        return out, jax.tree.map(lambda leaf: leaf.mean(axis=0), statistics)


def _in_chunks(
    function: Callable[[Any], tuple[Array, Any]], each: Any, count: int, mesh: Mesh
) -> tuple[Array, Any]:
    """`function` of each part of the examples; its first result in the order of the batch.

    A part holds as many examples of every device, so that nothing moves between devices.
    """
    devices, sharding = mesh.size, NamedSharding(mesh, PartitionSpec(None, BATCH_AXIS))

    def cut(array: Array) -> Array:
        parts = array.reshape(devices, count, -1, *array.shape[1:]).swapaxes(0, 1)
        parts = parts.reshape(count, -1, *array.shape[1:])
        return jax.lax.with_sharding_constraint(parts, sharding)

    def join(parts: Array) -> Array:
        parts = parts.reshape(count, devices, -1, *parts.shape[2:]).swapaxes(0, 1)
        return parts.reshape(-1, *parts.shape[3:])

    again = jax.checkpoint(function, prevent_cse=False)
    out, rest = jax.lax.map(again, jax.tree.map(cut, each))
    joined = jax.lax.with_sharding_constraint(
        join(out), NamedSharding(mesh, PartitionSpec(BATCH_AXIS))
    )
    return joined, rest
