"""What a training step changes, and where it starts from."""

import dataclasses
import functools
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int

from big_ssl.train import mesh as mesh_lib
from big_ssl.train.mesh import replicated

SHARDINGS = {'none': (), 'optimizer': ('opt_state',), 'all': ('opt_state', 'params')}


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


def layout(state: TrainState, mesh: Mesh, shard: str) -> TrainState:
    """The sharding of each array of a state (or of their shapes), one of SHARDINGS.

    'none' keeps all of it on every device; 'optimizer' cuts the optimiser's state over the devices
    (Rajbhandari et al. 2020, arXiv:1910.02054, P_os), 'all' the parameters too (P_os+g+p): the step
    gathers them. What does not divide stays whole.
    """
    whole = jax.tree.map(lambda _: replicated(mesh), state)
    cut = jax.tree.map(lambda x: mesh_lib.cut(mesh, x.shape), state)
    return dataclasses.replace(whole, **{name: getattr(cut, name) for name in SHARDINGS[shard]})


def initial_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_size: int,
    seed: int,
    mesh: Mesh,
    shard: str = 'none',
) -> TrainState:
    """Fresh parameters from `seed`, made where they stay: on the devices of the mesh."""
    init = functools.partial(_init, network, optimizer, image_size, seed)
    return jax.jit(init, out_shardings=layout(jax.eval_shape(init), mesh, shard))()


def abstract_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_size: int,
    mesh: Mesh,
    shard: str = 'none',
) -> TrainState:
    """Shapes, dtypes and shardings of `initial_state`; nothing is computed."""
    shapes = jax.eval_shape(functools.partial(_init, network, optimizer, image_size, 0))
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        layout(shapes, mesh, shard),
    )


def _init(
    network: nn.Module, optimizer: optax.GradientTransformation, image_size: int, seed: int
) -> TrainState:
    images = jnp.zeros((2, image_size, image_size, 3))
    variables = network.init(jax.random.key(seed), images, train=True)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables['params'],
        batch_stats=variables.get('batch_stats', {}),
        opt_state=optimizer.init(variables['params']),
    )
