"""A program of StableHLO with its weights inside, for cpu, cuda and tpu, any number of images."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export

from big_ssl.exports.model import Model

REQUIREMENTS = ('jax', 'numpy', 'pillow')
AXES = 'NHWC'
BAKES = True


def write(model: Model, folder: Path) -> None:
    """`model.stablehlo`: jax.export.deserialize(…).call(images)."""
    (batch,) = export.symbolic_shape('batch')
    size = model.image_size
    dtype = jnp.uint8 if model.baked else jnp.float32
    images = jax.ShapeDtypeStruct((batch, size, size, 3), dtype)
    exported = export.export(jax.jit(model.function()), platforms=('cpu', 'cuda', 'tpu'))(images)
    (folder / 'model.stablehlo').write_bytes(exported.serialize())
