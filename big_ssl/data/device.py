"""The second way of a training batch: the whole data set lies on the devices, and a step draws,
reads, crops and resizes there what it trains on. No host work, no TensorFlow, no OpenCV.

Every image is decoded once by Pillow and stored as a square; each device holds a part of them.
Sampler, pairs and crops are those of the host's way, number for number; a crop is a box in the
stored image.
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

from big_ssl.augment.crops import crop_boxes
from big_ssl.augment.geometry import crop_and_resize
from big_ssl.data import permutation
from big_ssl.data.cases import Units
from big_ssl.data.images import ImageTable, decode, in_parallel
from big_ssl.data.sampler import Sampler, crop_uniforms, draw
from big_ssl.errors import InputError
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.mesh import BATCH_AXIS

_AT_ONCE = 2**27  # bytes of stored images on their way to the devices that crop them


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=('stored', 'sizes', 'offsets', 'images', 'groups', 'by_image'),
    meta_fields=('seed', 'batch_size', 'views', 'area', 'aspect', 'mesh'),
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
      seed, batch_size, views: as in `Sampler`.
      area, aspect: as in `crop_boxes`.
      mesh: of all devices.
    """

    stored: UInt8[Array, 'padded s s c']
    sizes: Int[Array, 'n 2']
    offsets: Int[Array, ' units_plus_1']
    images: Int[Array, ' n']
    groups: Int[Array, ' units']
    by_image: Mapping[str, Array]
    seed: int
    batch_size: int
    views: int
    area: tuple[float, float]
    aspect: tuple[float, float]
    mesh: Mesh


def make_pool(
    table: ImageTable,
    sampler: Sampler,
    by_image: Mapping[str, np.ndarray],
    mesh: Mesh,
    *,
    size: int,
    area: tuple[float, float],
    aspect: tuple[float, float],
    limit_bytes: int,
) -> Pool:
    """Decodes the images that the sampler draws from; each process those of its own devices.

    Args:
      by_image: facts of every row of the manifest.
      size: side of the stored images in pixels.
      area, aspect: as in `crop_boxes`.
      limit_bytes: what the images may take on one device.

    Raises:
      InputError: they need more, or one does not decode.
    """
    rows = np.unique(sampler.units.images)
    padded = mesh.size * math.ceil(len(rows) / mesh.size)
    shape = (padded, size, size, table.channels)
    _check_room(len(rows), shape, mesh.size, limit_bytes)

    def part(index: Any) -> np.ndarray:
        start, stop, _ = index[0].indices(padded)
        own = np.zeros((stop - start, *shape[1:]), np.uint8)
        load = functools.partial(_square, table, size)
        for place, image in enumerate(in_parallel(load, rows[start:stop].tolist())):
            own[place] = image
        return own

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
        stored=jax.make_array_from_callback(shape, mesh_lib.batch_sharded(mesh), part),
        **mesh_lib.copy(facts, mesh),
        seed=sampler.seed,
        batch_size=sampler.batch_size,
        views=sampler.views,
        area=area,
        aspect=aspect,
        mesh=mesh,
    )


def draw_batch(pool: Pool, step: Int[Array, '']) -> dict[str, Array]:
    """What the host's way would have drawn for `step`: called inside the compiled step.

    Returns:
      `examples` uint32 [b] and `groups` int32 [b] as of `Feed.batches`; `position` int32 [b, v]
      among the stored images; `boxes` float32 [b, v, 4] (y, x, height, width in stored pixels); and
      each of `by_image` for the first view's image.
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
        boxes = crop_boxes(
            uniforms, sides[..., 0], sides[..., 1], area=pool.area, aspect=pool.aspect
        )
        scale = pool.stored.shape[1] / jnp.concatenate([sides, sides], axis=-1)
        each = {
            'examples': drawn.examples.astype(jnp.uint32),
            'position': drawn.images.astype(jnp.int32),
            'boxes': (boxes * scale).astype(jnp.float32),
        }
    each |= {name: values[each['position'][:, 0]] for name, values in arrays.by_image.items()}
    each = jax.lax.with_sharding_constraint(each, mesh_lib.batch_sharded(pool.mesh))
    groups = jax.lax.with_sharding_constraint(drawn.groups, mesh_lib.replicated(pool.mesh))
    return each | {'groups': groups}


def cropped(
    pool: Pool, position: Int[Array, 'b v'], boxes: Float[Array, 'b v 4'], size: int
) -> UInt8[Array, 'b v size size c']:
    """The boxes of the images at these positions, each resized to a square of `size`.

    A device asks all others for the images of its examples: they are in no order, so each adds what
    it has to zeros, some examples at a time, and a reduce-scatter brings them together.
    """
    batch, everywhere = PartitionSpec(BATCH_AXIS), PartitionSpec()

    def local(stored: Array, everyones: Array, own_boxes: Array) -> Array:
        devices, first = pool.mesh.size, jax.lax.axis_index(BATCH_AXIS) * len(stored)
        count = _divisor(len(own_boxes), _AT_ONCE // (stored[0].size * pool.views * devices))
        asked = everyones.reshape(devices, -1, count, pool.views).swapaxes(0, 1)

        def some(part: tuple[Array, Array]) -> Array:
            place, box = part[0] - first, part[1]
            here = (place >= 0) & (place < len(stored))
            images = jnp.where(here[..., None, None, None], stored[place], 0)
            images = jax.lax.psum_scatter(images, BATCH_AXIS)
            return jax.vmap(jax.vmap(lambda image, b: _crop(image, b, size)))(images, box)

        out = jax.lax.map(some, (asked, own_boxes.reshape(-1, count, *own_boxes.shape[1:])))
        return out.reshape(-1, *out.shape[2:])

    sharded = jax.shard_map(
        local, mesh=pool.mesh, in_specs=(batch, everywhere, batch), out_specs=batch
    )
    return sharded(pool.stored, position, boxes)


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


def _square(table: ImageTable, size: int, row: int) -> UInt8[np.ndarray, 'size size c']:
    pixels = decode(table, row)
    image = Image.fromarray(pixels if table.channels == 3 else pixels[..., 0])
    resized = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return resized.reshape(size, size, table.channels)


def _check_room(images: int, shape: tuple[int, ...], devices: int, limit_bytes: int) -> None:
    needed = math.prod(shape) // devices
    if needed > limit_bytes:
        parts = f' in {devices} parts' if devices > 1 else ''
        raise InputError(
            f'config: dataset.placement=device needs {needed / 2**30:.1f} GiB on a device for '
            f'{images} images of {shape[1]} x {shape[2]} x {shape[3]}{parts}, which has '
            f'{limit_bytes / 2**30:.1f} GiB for them; lower --config.dataset.device_size or use '
            '--config.dataset.placement=host'
        )


def _divisor(number: int, at_most: int) -> int:
    """The largest divisor of a number that is not above a limit, and 1 at least."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(at_most, 1))
