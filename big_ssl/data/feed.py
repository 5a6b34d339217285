"""Training batches on the devices, by either of the two ways of `dataset.placement`."""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from big_ssl.augment.crops import Crop
from big_ssl.augment.simclr import Augmentation, augment
from big_ssl.data import device
from big_ssl.data.device import Layout
from big_ssl.data.images import ImageTable
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.errors import InputError
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.memory import device_memory

log = logging.getLogger(__name__)

Batch = dict[str, Any]
WHOLE = ('groups', 'pool')  # of a batch, not cut along its examples
_SHARE_OF_MEMORY = 0.5  # of a device, for the images of placement=device
_FEW = 0.1  # of the images


class Feed:
    """Global batches of a range of steps, the same whatever the way and the number of hosts.

    Args:
      config: of the run.
      table: headers of the images.
      sampler: says which images.
      mesh: where the batches go.
      by_image: facts of each row of the manifest, by name; a batch has them of the first views.
    """

    def __init__(
        self,
        config: ConfigDict,
        table: ImageTable,
        sampler: Sampler,
        mesh: Mesh,
        *,
        by_image: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._table, self._sampler, self._mesh = table, sampler, mesh
        self._by_image = by_image or {}
        self._local = mesh_lib.local_part(sampler.batch_size)
        self._crop = crop_of(config)
        self._size = config.image_size
        self._pool: device.Pool | None = None
        if config.dataset.placement == 'device':
            layout = stored_layout(config, table.channels)
            rows = np.unique(sampler.units.images)
            check_room(layout, len(rows), mesh, device_memory(jax.local_devices()))
            _warn_if_soft(table.sizes[rows], layout.size, config.image_size)
            self._pool = device.make_pool(
                table, sampler, self._by_image, mesh, layout=layout, crop=self._crop
            )

    def batches(self, steps: range) -> Iterator[Batch]:
        """A batch for each step, of which `drawn` makes what the step trains on.

        Raises:
          InputError: an image does not decode.
        """
        if self._pool is not None:
            for _ in steps:
                yield {'pool': self._pool}
            return
        from big_ssl.data.pipeline import host_batches  # imports OpenCV

        images = host_batches(
            self._table, self._sampler, steps, self._local, size=self._size, crop=self._crop
        )
        for step, pixels in zip(steps, images):
            indices = self._sampler.batch(step)
            each = {'views': pixels} | self._facts(indices[self._local])
            groups = mesh_lib.copy({'groups': indices.groups.astype(np.int32)}, self._mesh)
            yield mesh_lib.spread(each, self._mesh) | groups

    def _facts(self, indices: Indices) -> Batch:
        first = indices.images[:, 0]
        facts = {name: values[first] for name, values in self._by_image.items()}
        return facts | {'examples': indices.examples.astype(np.uint32)}


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


def drawn(batch: Batch, step: Array) -> Batch:
    """What a step trains on: for each example `examples` (its number), what `views` needs and the
    facts of `by_image`; `groups` of the whole batch. With placement=device it is drawn here."""
    return batch | device.draw_batch(batch['pool'], step) if 'pool' in batch else batch


def views(batch: Batch, size: int) -> UInt8[Array, 'b v size size c']:
    """The cropped views of a `drawn` batch; with placement=device they are cropped here."""
    if 'views' in batch:
        return batch['views']
    return device.cropped(batch['pool'], batch['position'], batch['boxes'], size)


def augmented(config: ConfigDict, batch: Batch, step: Array) -> Float[Array, 'b v size size 3']:
    """The views of a `drawn` batch as the network sees them in training: float32 in [0, 1]."""
    key = jax.random.key(config.seed)
    return augment(
        views(batch, config.image_size),
        batch['examples'],
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
