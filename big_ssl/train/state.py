"""What a training step changes, and where it starts from."""

import functools
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from big_ssl.train.mesh import replicated


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint holds.

    Attributes:
      step: steps taken so far, int32.
      params, batch_stats: of the network, float32.
      opt_state: of the optimiser.
    """

    step: Int[Array, '']
    params: Any
    batch_stats: Any
    opt_state: Any


def initial_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_size: int,
    seed: int,
    mesh: Mesh,
) -> TrainState:
    """Fresh parameters from `seed`, made where they stay: on every device of the mesh."""
    init = functools.partial(_init, network, optimizer, image_size, seed)
    return jax.jit(init, out_shardings=replicated(mesh))()


def abstract_state(
    network: nn.Module, optimizer: optax.GradientTransformation, *, image_size: int, mesh: Mesh
) -> TrainState:
    """Shapes, dtypes and shardings of `initial_state`; nothing is computed."""
    shapes = jax.eval_shape(functools.partial(_init, network, optimizer, image_size, 0))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)), shapes
    )


def _init(
    network: nn.Module, optimizer: optax.GradientTransformation, image_size: int, seed: int
) -> TrainState:
    images = jnp.zeros((2, image_size, image_size, 3))
    variables = network.init(jax.random.key(seed), images, train=True)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables['batch_stats'],
        opt_state=optimizer.init(variables['params']),
    )
