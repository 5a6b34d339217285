"""All devices of the job as one mesh, and arrays of a host laid out on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from big_ssl.errors import InputError

BATCH_AXIS = 'data'


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices along one axis, `data`, those of a process beside each other (see `local_part`).

    `jax.make_mesh` orders by the torus instead, across the hosts of a TPU pod.

    Args:
      devices: by default those of the job.
    """
    devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(devices), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """Axis 0 cut into equal parts over the devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def cut(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """The largest axis that divides over the devices cut into equal parts; whole if none does."""
    devices = mesh.shape[BATCH_AXIS]
    axes = [axis for axis, size in enumerate(shape) if size and size % devices == 0]
    if not axes:
        return replicated(mesh)
    largest = max(axes, key=lambda axis: (shape[axis], axis))
    return NamedSharding(mesh, PartitionSpec(*[None] * largest, BATCH_AXIS))


def local_part(batch_size: int) -> slice:
    """This process's examples of a global batch.

    Raises:
      InputError: the batch does not divide over the devices.
    """
    if batch_size % jax.device_count():
        raise InputError(
            f'config: batch_size={batch_size} does not divide over {jax.device_count()} devices'
        )
    size = batch_size // jax.process_count()
    return slice(jax.process_index() * size, (jax.process_index() + 1) * size)


def spread(arrays: Any, mesh: Mesh) -> Any:
    """Global arrays, cut along axis 0, from each process's own part of them (a pytree)."""
    return _globally(arrays, batch_sharded(mesh))


def copy(arrays: Any, mesh: Mesh) -> Any:
    """Global arrays, whole on every device, from equal arrays on every process (a pytree)."""
    return _globally(arrays, replicated(mesh))


def fetch(arrays: Any) -> Any:
    """NumPy arrays of global arrays (a pytree), whole on every process.

    Parts are gathered, array by array: all processes must call it.
    """

    def whole(x: jax.Array) -> np.ndarray:
        if x.is_fully_replicated:
            return np.asarray(x.addressable_data(0))
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(whole, arrays)


def _globally(arrays: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), arrays)
