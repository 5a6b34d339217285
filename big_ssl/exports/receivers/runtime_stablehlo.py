"""Runs model.stablehlo in JAX."""

import jax
import numpy as np
from jax import export


def load(folder):
    """uint8 images [n, size, size, 3] to the model's outputs [n, k], as a function."""
    exported = export.deserialize((folder / 'model.stablehlo').read_bytes())
    call = jax.jit(exported.call)

    def run(images):
        if exported.in_avals[0].dtype == np.float32:
            images = images.astype(np.float32) / 255
        return np.asarray(call(images))

    return run
