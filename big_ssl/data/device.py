"""The second way of a training batch: the whole data set lies on the devices, and a step draws,
reads, crops and resizes there what it trains on. No host work, no TensorFlow, no OpenCV.

Every image is decoded once by Pillow and made square; each device holds a part of them. Sampler,
pairs and crops are those of the host's way, number for number; a crop is a box in the stored image.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, UInt8
from PIL import Image

from big_ssl.augment.crops import Crop, crop_boxes
from big_ssl.augment.geometry import crop_and_resize
from big_ssl.data import buffers, permutation
from big_ssl.data.batches import Batch
from big_ssl.data.cases import Units
from big_ssl.data.images import ImageTable, decode, in_parallel
from big_ssl.data.sampler import Sampler, crop_uniforms, draw
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.mesh import BATCH_AXIS

_AT_ONCE = 2**27  # bytes of stored images on their way to the devices that crop them
_TILE = (32, 128)  # of bytes in a TPU's memory


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an image lies in a device's memory: its bytes one after the other, in whole tiles.

    As [size, size, channels] a TPU would lay the images' axis innermost, and copy all of them to
    read one.

    Attributes:
      size: side of the square in pixels.
      channels: 1 or 3.
    """

    size: int
    channels: int

    @property
    def bytes(self) -> int:
        return self.size**2 * self.channels

    def shape(self, images: int, devices: int) -> tuple[int, int, int]:
        """Of so many images in equal parts: images, rows, columns; the last ones may be zeros."""
        tiles = math.ceil(self.bytes / math.prod(_TILE))
        return devices * math.ceil(images / devices), tiles * _TILE[0], _TILE[1]

    def images(self, stored: UInt8[Array, '*n rows 128']) -> UInt8[Array, '*n s s c']:
        """What was stored."""
        *count, _, _ = stored.shape
        flat = stored.reshape(*count, -1)[..., : self.bytes]
        return flat.reshape(*count, self.size, self.size, self.channels)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=('stored', 'sizes', 'offsets', 'images', 'groups', 'by_image'),
    meta_fields=('layout', 'seed', 'batch_size', 'views', 'crop', 'mesh'),
)
@dataclasses.dataclass(frozen=True)
class Pool:
    """A data set in device memory, and how batches are drawn from it.

    Attributes:
      stored: the images, and as many of zeros as it takes to cut them into equal parts, one a
        device. All else is whole on every device.
      sizes: height and width of each image before it was made square.
      offsets, images, groups: `cases.Units`; images are positions in `stored`.
      by_image: further facts of each image, by name.
      layout: of an image in `stored`.
      seed, batch_size, views: as in `Sampler`.
      crop: which boxes become views.
      mesh: of all devices.
    """

    stored: UInt8[Array, 'padded rows 128']
    sizes: Int[Array, 'n 2']
    offsets: Int[Array, ' units_plus_1']
    images: Int[Array, ' n']
    groups: Int[Array, ' units']
    by_image: Mapping[str, Array]
    layout: Layout
    seed: int
    batch_size: int
    views: int
    crop: Crop
    mesh: Mesh

    def drawn(self, step: Int[Array, '']) -> Batch:
        """The batch of a step, number for number that of the host's way."""
        return _drawn(self, step)

    def cropped(self, each: dict[str, Array], size: int) -> UInt8[Array, 'b v size size c']:
        """The boxes of the images of these examples, each resized to a square of `size`."""
        return _cropped(self, each['position'], each['boxes'], size)


def make_pool(
    table: ImageTable,
    sampler: Sampler,
    by_image: Mapping[str, np.ndarray],
    mesh: Mesh,
    *,
    layout: Layout,
    crop: Crop,
) -> Pool:
    """Decodes the images that the sampler draws from; each process those of its own devices.

    Args:
      by_image: facts of every row of the manifest.
      layout: of the stored images.
      crop: which boxes become views.

    Raises:
      InputError: one does not decode.
    """
    rows = np.unique(sampler.units.images)
    position = np.zeros(len(table.manifest), np.int32)
    position[rows] = np.arange(len(rows))
    facts = {
        'sizes': table.sizes[rows].astype(np.int32),
        'offsets': sampler.units.offsets.astype(np.int32),
        'images': position[sampler.units.images],
        'groups': sampler.units.groups.astype(np.int32),
        'by_image': {name: values[rows] for name, values in by_image.items()},
    }
    return Pool(
        stored=_stored(table, rows, layout, mesh),
        **mesh_lib.copy(facts, mesh),
        layout=layout,
        seed=sampler.seed,
        batch_size=sampler.batch_size,
        views=sampler.views,
        crop=crop,
        mesh=mesh,
    )


def _drawn(pool: Pool, step: Int[Array, '']) -> Batch:
    """What the host's way would have drawn for `step`: called inside the compiled step.

    Of each example there are, beside `examples` and each of `by_image` for the first view's image,
    `position` int32 [b, v] among the stored images and `boxes` float32 [b, v, 4] (y, x, height,
    width in stored pixels).
    """
    arrays: Any = pool  # JAX's, in place of NumPy's
    with jax.enable_x64(True), jax.numpy_rank_promotion('allow'):
        drawn = draw(
            Units(arrays.offsets, arrays.images, arrays.groups),
            step.astype(jnp.int64),
            seed=pool.seed,
            batch_size=pool.batch_size,
            views=pool.views,
            permute=_permute,
            xp=jnp,
        )
        sides = arrays.sizes[drawn.images].astype(jnp.int64)
        uniforms = crop_uniforms(drawn.examples, pool.seed, pool.views, jnp)
        boxes = crop_boxes(uniforms, sides[..., 0], sides[..., 1], pool.crop)
        scale = pool.layout.size / jnp.concatenate([sides, sides], axis=-1)
        each = {
            'examples': drawn.examples.astype(jnp.uint32),
            'position': drawn.images.astype(jnp.int32),
            'boxes': (boxes * scale).astype(jnp.float32),
        }
    each |= {name: values[each['position'][:, 0]] for name, values in arrays.by_image.items()}
    each = jax.lax.with_sharding_constraint(each, mesh_lib.batch_sharded(pool.mesh))
    groups = jax.lax.with_sharding_constraint(drawn.groups, mesh_lib.replicated(pool.mesh))
    return Batch(each, groups, images=pool)


def _cropped(
    pool: Pool, position: Int[Array, 'b v'], boxes: Float[Array, 'b v 4'], size: int
) -> UInt8[Array, 'b v size size c']:
    """The boxes of the images at these positions, each resized to a square of `size`.

    A device asks all others for the images of its examples: they are in no order, so each adds what
    it has to zeros, some examples at a time, and a reduce-scatter brings them together.
    """
    batch, everywhere = PartitionSpec(BATCH_AXIS), PartitionSpec()

    def local(stored: Array, everyones: Array, own_boxes: Array) -> Array:
        devices, first = pool.mesh.size, jax.lax.axis_index(BATCH_AXIS) * len(stored)
        count = _divisor(len(own_boxes), _AT_ONCE // (pool.layout.bytes * pool.views * devices))
        asked = everyones.reshape(devices, -1, count, pool.views).swapaxes(0, 1)

        def some(part: tuple[Array, Array]) -> Array:
            place, box = part[0] - first, part[1]
            here = (place >= 0) & (place < len(stored))
            found = _read(stored, jnp.clip(place, 0, len(stored) - 1))
            found = jax.lax.psum_scatter(jnp.where(here[..., None, None], found, 0), BATCH_AXIS)
            images = pool.layout.images(found)
            return jax.vmap(jax.vmap(lambda image, b: _crop(image, b, size)))(images, box)

        out = jax.lax.map(some, (asked, own_boxes.reshape(-1, count, *own_boxes.shape[1:])))
        return out.reshape(-1, *out.shape[2:])

    sharded = jax.shard_map(
        local, mesh=pool.mesh, in_specs=(batch, everywhere, batch), out_specs=batch
    )
    return sharded(pool.stored, position, boxes)


def _read(
    stored: UInt8[Array, 'n rows 128'], place: Int[Array, '*k']
) -> UInt8[Array, '*k rows 128']:
    """Images by their places: by a gather, for which a TPU would copy all that is stored."""

    def one_by_one(place: Array) -> Array:
        found = jax.lax.map(lambda each: stored[each], place.reshape(-1))
        return found.reshape(*place.shape, *stored.shape[1:])

    return jax.lax.platform_dependent(place, tpu=one_by_one, default=lambda place: stored[place])


def _crop(
    image: UInt8[Array, 's s c'], box: Float[Array, ' 4'], size: int
) -> UInt8[Array, 'size size c']:
    return jnp.clip(jnp.round(crop_and_resize(image, box, size)), 0, 255).astype(jnp.uint8)


def _permute(positions: Any, length: int, *key: Any) -> Any:
    """`permutation.permute` in JAX."""
    keys: Any = jnp.broadcast_to(permutation.bits(*key, xp=jnp), positions.shape)

    def walk(x: Any) -> Any:
        return jnp.where(x < length, x, permutation.feistel(x, length, keys))

    start: Any = permutation.feistel(positions.astype(jnp.uint64), length, keys)
    return jax.lax.while_loop(lambda x: (x >= length).any(), walk, start).astype(jnp.int64)


def _stored(
    table: ImageTable, rows: Int[np.ndarray, ' n'], layout: Layout, mesh: Mesh
) -> UInt8[Array, 'padded rows 128']:
    """The images of these rows on the devices; the host holds one device's part at a time."""
    shape, sharding = layout.shape(len(rows), mesh.size), mesh_lib.batch_sharded(mesh)
    indices: Any = sharding.addressable_devices_indices_map(shape)
    parts = []
    for device, index in indices.items():
        start, stop, _ = index[0].indices(shape[0])
        part = buffers.aligned((stop - start, *shape[1:]))
        flat = part.reshape(len(part), -1)
        load = functools.partial(_square, table, layout.size)
        for place, image in enumerate(in_parallel(load, rows[start:stop].tolist())):
            flat[place, : layout.bytes] = image.reshape(-1)
        parts.append(jax.device_put(part, device).block_until_ready())
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _square(table: ImageTable, size: int, row: int) -> UInt8[np.ndarray, 'size size *c']:
    pixels = decode(table, row)
    image = Image.fromarray(pixels if table.channels == 3 else pixels[..., 0])
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number that is not above a limit, and 1 at least."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(at_most, 1))
