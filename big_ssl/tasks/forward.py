"""Views through the network in training: the whole batch at once, or part by part (GradCache).

Gao et al. 2021 (arXiv:2101.06983): a contrastive loss needs the projections of the whole batch, but
not its activations. The projections of each part are computed and its activations dropped; the
gradient of the loss with respect to all projections then goes back through each part, computed once
more. Automatic differentiation of a rematerialised loop is exactly that.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from big_ssl.data import feed
from big_ssl.data.batches import Batch
from big_ssl.errors import InputError
from big_ssl.train.mesh import BATCH_AXIS
from big_ssl.train.state import TrainState


def check_chunks(config: ConfigDict, mesh: Mesh) -> None:
    """Raises InputError if the batch does not divide over the devices and `config.chunks`."""
    if config.batch_size % (mesh.size * config.chunks):
        raise InputError(
            f'config: batch_size={config.batch_size} does not divide over {mesh.size} devices in '
            f'chunks={config.chunks}; it must be a multiple of {mesh.size * config.chunks}'
        )


def outputs(
    config: ConfigDict,
    network: nn.Module,
    head: str,
    params: Any,
    state: TrainState,
    batch: Batch,
    mesh: Mesh,
) -> tuple[Float[Array, 'b v d'], Any]:
    """What the network gives for each view of a batch, and the new batch statistics.

    With `config.chunks` parts, memory is that of one part, and the gradient that of the whole batch
    under batch statistics of each part (over all devices), whose running averages are the mean of
    the parts'. With `model.batch_norm=frozen` nothing in the network depends on the other examples
    of a batch, and the number of parts changes nothing.

    Args:
      head: which of the network's outputs.
    """
    learns = config.model.batch_norm == 'batch'

    def apply(part: Batch) -> tuple[Array, Any]:
        with jax.named_scope('augment'):
            images = feed.augmented(config, part, state.step)
        b, v, *shape = images.shape
        variables = {'params': params, 'batch_stats': state.batch_stats}
        found, updates = network.apply(
            variables,
            images.reshape(b * v, *shape),
            train=learns,
            mutable=['batch_stats'] if learns else [],
        )
        return found[head].reshape(b, v, -1), updates.get('batch_stats', state.batch_stats)

    if config.chunks == 1:
        return apply(batch)
    out, statistics = _in_chunks(
        lambda part: apply(dataclasses.replace(batch, each=part)), batch.each, config.chunks, mesh
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
