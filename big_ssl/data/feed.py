"""Training batches on the devices, by either of the two ways of `dataset.placement`."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from big_ssl.augment.simclr import Augmentation, augment
from big_ssl.data import device
from big_ssl.data.images import ImageTable
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.train import mesh as mesh_lib

Batch = dict[str, Any]
WHOLE = ('groups', 'pool')  # of a batch, not cut along its examples
_SHARE_OF_MEMORY = 0.5  # of a device, for the images of placement=device
_CPU_MEMORY = 8 * 2**30


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
        self._crop = {'area': tuple(config.crop.area), 'aspect': tuple(config.crop.aspect)}
        self._size = config.image_size
        self._pool: device.Pool | None = None
        if config.dataset.placement == 'device':
            self._pool = device.make_pool(
                table,
                sampler,
                self._by_image,
                mesh,
                size=config.dataset.device_size or 2 * config.image_size,
                limit_bytes=_memory(),
                **self._crop,
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
            self._table, self._sampler, steps, self._local, size=self._size, **self._crop
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


def _memory() -> int:
    """Bytes that the stored images may take on one device."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(stats['bytes_limit'] * _SHARE_OF_MEMORY) if 'bytes_limit' in stats else _CPU_MEMORY
