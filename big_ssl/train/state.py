"""What a training step changes, and where it starts from."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
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

Extra = Callable[[Mapping[str, Any]], Any]  # params and batch_stats → what is kept besides
SHARDINGS = {'none': (), 'optimizer': ('opt_state',), 'all': ('opt_state', 'params', 'extra')}


def _nothing(variables: Mapping[str, Any]) -> dict[str, Any]:
    return {}


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint holds.

    Attributes:
      step: steps taken so far, int32.
      params, batch_stats: of the network, float32.
      opt_state: of the optimiser.
      extra: what the method keeps besides, see `methods.Method.init`.
    """

    step: Int[Array, '']
    params: Any
    batch_stats: Any
    opt_state: Any
    extra: Any = dataclasses.field(default_factory=dict)


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


def with_extra(state: TrainState, extra: Extra, mesh: Mesh, shard: str = 'none') -> TrainState:
    """The state with what a method keeps besides, in arrays of its own."""
    kept = extra({'params': state.params, 'batch_stats': state.batch_stats})
    where = layout(dataclasses.replace(state, extra=kept), mesh, shard).extra
    copied = jax.jit(functools.partial(jax.tree.map, jnp.copy), out_shardings=where)(kept)
    return dataclasses.replace(state, extra=copied)


def abstract_state(
    network: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    image_size: int,
    mesh: Mesh,
    shard: str = 'none',
    extra: Extra = _nothing,
) -> TrainState:
    """Shapes, dtypes and shardings of `initial_state` and its `extra`; nothing is computed."""
    shapes = jax.eval_shape(functools.partial(_init, network, optimizer, image_size, 0))
    kept = jax.eval_shape(extra, {'params': shapes.params, 'batch_stats': shapes.batch_stats})
    shapes = dataclasses.replace(shapes, extra=kept)
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
