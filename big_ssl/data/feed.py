"""Training batches on the devices, by either of the two ways of `dataset.placement`."""

import dataclasses
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from big_ssl.augment.crops import Crop
from big_ssl.augment.simclr import Augmentation, augment
from big_ssl.data import device
from big_ssl.data.batches import Batch, Cropped, Source
from big_ssl.data.device import Layout
from big_ssl.data.images import ImageTable
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.memory import device_memory

log = logging.getLogger(__name__)

_SHARE_OF_MEMORY = 0.5  # of a device, for the images of placement=device
_FEW = 0.1  # of the images


@dataclasses.dataclass(frozen=True)
class Batches:
    """Called with steps: their batches, in order.

    Attributes:
      of: what makes them.
      like: what all of them are by shapes and shardings, for a step to be compiled by: the first
        one is there only when TensorFlow is imported.
    """

    of: Callable[[range], Iterator[Source]]
    like: Source

    def __call__(self, steps: range) -> Iterator[Source]:
        return self.of(steps)


def make_feed(
    config: ConfigDict,
    table: ImageTable,
    sampler: Sampler,
    mesh: Mesh,
    *,
    by_image: Mapping[str, np.ndarray] | None = None,
) -> Batches:
    """Global batches of a range of steps, the same whatever the way and the number of hosts.

    What is returned is called with steps; it raises InputError where an image does not decode.

    Args:
      config: of the run; `dataset.placement` is the way.
      table: headers of the images.
      sampler: says which images.
      mesh: where the batches go.
      by_image: facts of each row of the manifest, by name; a batch has them of the first views.

    Raises:
      InputError: the batch does not divide over the devices, or the images do not fit on them.
    """
    mesh_lib.local_part(sampler.batch_size)  # it divides over the devices
    way = {'device': _from_devices, 'host': _from_host}[config.dataset.placement]
    return way(config, table, sampler, mesh, by_image or {})


def _from_host(
    config: ConfigDict,
    table: ImageTable,
    sampler: Sampler,
    mesh: Mesh,
    by_image: Mapping[str, np.ndarray],
) -> Batches:
    """Each host reads, decodes and crops its part of a batch, by tf.data."""
    part = mesh_lib.local_part(sampler.batch_size)

    def batches(steps: range) -> Iterator[Batch]:
        from big_ssl.data import pipeline  # imports TensorFlow and OpenCV

        raised: list[Exception] = []
        settings: Any = {'size': config.image_size, 'crop': crop_of(config), 'by_image': by_image}
        dataset = pipeline.training_batches(table, sampler, steps, part, raised=raised, **settings)
        for arrays in pipeline.arrays_of(dataset, raised):
            groups = mesh_lib.copy(arrays.pop('groups'), mesh)
            yield Batch(mesh_lib.spread(arrays, mesh), groups, Cropped())

    facts = {
        name: jax.ShapeDtypeStruct(values.shape[1:], values.dtype)
        for name, values in by_image.items()
    }
    return Batches(batches, host_batch(config, mesh, sampler.views, table.channels, facts))


def host_batch(
    config: ConfigDict,
    mesh: Mesh,
    views: int,
    channels: int,
    by_image: Mapping[str, jax.ShapeDtypeStruct],
) -> Batch:
    """A batch of `placement=host`, by shapes and shardings alone.

    Args:
      by_image: what facts of one image are.
    """
    count, side = config.batch_size, config.image_size
    each = {
        'views': ((views, side, side, channels), np.uint8),
        'examples': ((), np.uint32),
        **{name: (fact.shape, fact.dtype) for name, fact in by_image.items()},
    }
    arrays = {
        name: jax.ShapeDtypeStruct((count, *shape), dtype, sharding=mesh_lib.batch_sharded(mesh))
        for name, (shape, dtype) in each.items()
    }
    groups = jax.ShapeDtypeStruct((count,), np.int32, sharding=mesh_lib.replicated(mesh))
    return Batch(arrays, groups, Cropped())


def _from_devices(
    config: ConfigDict,
    table: ImageTable,
    sampler: Sampler,
    mesh: Mesh,
    by_image: Mapping[str, np.ndarray],
) -> Batches:
    """All images lie on the devices, where a step draws its batch."""
    layout = stored_layout(config, table.channels)
    rows = np.unique(sampler.units.images)
    check_room(layout, len(rows), mesh, device_memory(jax.local_devices()))
    _warn_if_soft(table.sizes[rows], layout.size, config.image_size)
    pool = device.make_pool(table, sampler, by_image, mesh, layout=layout, crop=crop_of(config))
    return Batches(lambda steps: itertools.repeat(pool, len(steps)), pool)


def _warn_if_soft(sizes: Int[np.ndarray, 'n 2'], stored: int, view: int) -> None:
    """Of elongated images a square keeps so little of the long side that all views are enlarged."""
    soft = sizes.max(axis=1) * view > sizes.min(axis=1) * stored
    if soft.mean() > _FEW:
        log.warning(
            'config: dataset.placement=device stores images as squares of %d px; %.0f%% of them '
            'are so elongated that even their largest crop is fewer pixels there than a view of '
            '%d: raise --config.dataset.device_size, or take placement=host',
            stored, 100 * soft.mean(), view,
        )  # fmt: skip


def augmented(config: ConfigDict, batch: Batch, step: Array) -> Float[Array, 'b v size size 3']:
    """The views of a batch as the network sees them in training: float32 in [0, 1]."""
    key = jax.random.key(config.seed)
    return augment(
        batch.views(config.image_size),
        batch.each['examples'],
        jax.random.fold_in(key, 0),
        jax.random.fold_in(jax.random.fold_in(key, 1), step),
        Augmentation(**config.augment),
    )


def crop_of(config: ConfigDict) -> Crop:
    """Which boxes of an image become views in training, as `config.crop` says."""
    crop = config.crop
    return Crop(tuple(crop.area), tuple(crop.aspect), crop.min_object_covered)


def stored_layout(config: ConfigDict, channels: int) -> Layout:
    """Of the images of placement=device: as large as it is asked for, or as twice a view."""
    return Layout(config.dataset.device_size or 2 * config.image_size, channels)


def check_room(layout: Layout, images: int, mesh: Mesh, memory: int) -> None:
    """Whether half of each device holds its part of so many images.

    Args:
      memory: bytes of a device; 0 is not known.

    Raises:
      InputError: it does not.
    """
    needed = math.prod(layout.shape(images, mesh.size)) // mesh.size
    room = int(memory * _SHARE_OF_MEMORY)
    if memory and needed > room:
        parts = f' in {mesh.size} parts' if mesh.size > 1 else ''
        raise InputError(
            f'config: dataset.placement=device needs {needed / 2**30:.1f} GiB on a device for '
            f'{images} images of {layout.size} x {layout.size} x {layout.channels}{parts}, which '
            f'has {room / 2**30:.1f} GiB for them (half of its memory); lower '
            '--config.dataset.device_size or use --config.dataset.placement=host'
        )
