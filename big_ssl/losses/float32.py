"""Unit vectors and products in full float32, whatever the dtype of the projections."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

EXACT = {'precision': jax.lax.Precision.HIGHEST, 'preferred_element_type': jnp.float32}


def normalise(z: Float[Array, '... d']) -> Float[Array, '... d']:
    """Unit length in float32; the floor under the squared norm is that of tf.math.l2_normalize.

    A zero vector stays zero and has a finite gradient.
    """
    z = z.astype(jnp.float32)
    return z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z * z, axis=-1, keepdims=True), 1e-12))
