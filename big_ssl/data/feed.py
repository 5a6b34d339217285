"""Training batches on the devices, by either of the two ways of `dataset.placement`."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from big_ssl.augment.geometry import crop_and_resize
from big_ssl.augment.simclr import Augmentation, augment
from big_ssl.data.device import device_batches, stored_images
from big_ssl.data.images import ImageTable
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.train import mesh as mesh_lib

Batch = dict[str, Any]
WHOLE = ('groups', 'stored')  # of a batch, on every device; the rest is one entry an example
_SHARE_OF_MEMORY = 0.5  # of a device, for the images of placement=device
_CPU_MEMORY = 8 * 2**30


class Feed:
    """Global batches of a range of steps, the same whatever the way and the number of hosts.

    Args:
      config: of the run.
      table: headers of the images.
      sampler: says which images.
      mesh: where the batches go.
      whole: what every device needs of the whole global batch, from the sampler's indices.
      part: what goes with each example, from the indices of this process's examples.
    """

    def __init__(
        self,
        config: ConfigDict,
        table: ImageTable,
        sampler: Sampler,
        mesh: Mesh,
        *,
        whole: Callable[[Indices], Batch] = lambda indices: {},
        part: Callable[[Indices], Batch] = lambda indices: {},
    ) -> None:
        self._table, self._sampler, self._mesh = table, sampler, mesh
        self._whole, self._part = whole, part
        self._local = mesh_lib.local_part(sampler.batch_size)
        self._crop = {'area': tuple(config.crop.area), 'aspect': tuple(config.crop.aspect)}
        self._size = config.image_size
        self._stored: jax.Array | None = None
        if config.dataset.placement == 'device':
            self._stored_size = config.dataset.device_size or 2 * config.image_size
            self._rows = np.unique(sampler.units.images)
            images = stored_images(table, self._rows, self._stored_size, limit_bytes=_memory())
            self._stored = mesh_lib.copy(images, mesh)

    def batches(self, steps: range) -> Iterator[Batch]:
        """The batches of these steps; each holds what `views` needs, `examples`, and the extras.

        Raises:
          InputError: an image does not decode.
        """
        for step, images in zip(steps, self._images(steps)):
            indices = self._sampler.batch(step)
            local = indices[self._local]
            batch = images | self._part(local) | {'examples': local.examples.astype(np.uint32)}
            batch = mesh_lib.spread(batch, self._mesh)
            batch |= mesh_lib.copy(self._whole(indices), self._mesh)
            yield batch | ({} if self._stored is None else {'stored': self._stored})

    def _images(self, steps: range) -> Iterator[Batch]:
        if self._stored is not None:
            plan = device_batches(
                self._table,
                self._sampler,
                steps,
                self._local,
                rows=self._rows,
                size=self._stored_size,
                **self._crop,
            )
            for position, boxes in plan:
                yield {'position': position, 'boxes': boxes}
        else:
            from big_ssl.data.pipeline import host_batches  # imports OpenCV

            for views in host_batches(
                self._table, self._sampler, steps, self._local, size=self._size, **self._crop
            ):
                yield {'views': views}


def views(batch: Batch, size: int) -> UInt8[Array, 'b v size size c']:
    """The cropped views of a batch; with placement=device this is where they are cropped."""
    if 'views' in batch:
        return batch['views']

    def crop(position: Array, box: Array) -> Array:
        cropped = crop_and_resize(batch['stored'][position], box, size)
        return jnp.clip(jnp.round(cropped), 0, 255).astype(jnp.uint8)

    return jax.vmap(jax.vmap(crop))(batch['position'], batch['boxes'])


def augmented(config: ConfigDict, batch: Batch, step: Array) -> Float[Array, 'b v size size 3']:
    """The views exactly as the network sees them in training: float32 in [0, 1]."""
    key = jax.random.key(config.seed)
    return augment(
        views(batch, config.image_size),
        batch['examples'],
        jax.random.fold_in(key, 0),
        jax.random.fold_in(jax.random.fold_in(key, 1), step),
        Augmentation(**config.augment),
    )


def _memory() -> int:
    """Bytes that the stored images may take on one device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats['bytes_limit'] * _SHARE_OF_MEMORY) if 'bytes_limit' in stats else _CPU_MEMORY
