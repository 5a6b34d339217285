"""What networks of equal blocks are built of, whatever their blocks."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

STATISTICS = 'batch_stats'
PRODUCT = 'product'  # what convolutions and dense layers give
REMAT = {  # what is kept for the backward pass where not everything is
    'norms': jax.checkpoint_policies.save_only_these_names(PRODUCT),
    'blocks': jax.checkpoint_policies.nothing_saveable,
}


class Stage(nn.Module):
    """Blocks of equal width, of which the first has the stride.

    Attributes:
      block: made of `channels`, `stride` and `settings`; called with an input and `train`.
      remat, scan: as of `resnet.ResNet`.
    """

    block: type[nn.Module]
    settings: Mapping[str, Any]
    blocks: int
    channels: int
    stride: int
    remat: str
    scan: bool

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n h2 w2 k']:
        first, *equal = (f'block{index + 1}' for index in range(self.blocks))
        x = self._block(self.stride, name=first)(x, train)
        if self.scan and len(equal) > 1 and not self.is_initializing():
            block = self._block(1, looped=True, parent=None)
            return scanned(self, block, equal, x, train)
        for name in equal:
            x = self._block(1, name=name)(x, train)
        return x

    def _block(self, stride: int, *, looped: bool = False, **options: Any) -> nn.Module:
        """A loop alone keeps the compiler from merging what is computed again with the first."""
        block = rematerialised(self.block, self.remat, static_argnums=2, prevent_cse=not looped)
        return block(self.channels, stride, **self.settings, **options)


def scanned(
    module: nn.Module, block: nn.Module, names: Sequence[str], x: Float[Array, '...'], train: bool
) -> Float[Array, '...']:
    """The equal blocks of these names one after the other, as a loop over their stacked variables.

    Args:
      module: that the blocks belong to; it is not being initialised.
      block: made with `parent=None`.
    """
    mutable = [STATISTICS] if train else []

    def apply(x: Array, variables: Any) -> tuple[Array, Any]:
        return block.apply(variables, x, train, mutable=mutable)

    kinds = [kind for kind in ('params', STATISTICS) if module.has_variable(kind, names[0])]
    of_blocks: list[Any] = [
        {kind: module.get_variable(kind, name) for kind in kinds} for name in names
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_blocks)
    x, updates = jax.lax.scan(apply, x, stacked)
    for i, name in enumerate(names if updates else ()):
        own = jax.tree.map(lambda leaf: leaf[i], updates[STATISTICS])  # noqa: B023
        module.put_variable(STATISTICS, name, own)
    return x


def max_pool(
    x: Float[Array, 'n h w c'], padding: str, fill: float = -jnp.inf
) -> Float[Array, 'n h2 w2 c']:
    """A 3x3 max-pool of stride 2, padded with `fill` by the rule 'torch' or 'same' of `ResNet`.

    Three strided slices along the one axis, then along the other, instead of `nn.max_pool`, whose
    gradient takes many times as long on CPU. Where maxima tie, they share the gradient.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        out = -(-size // 2)
        before = 1 if padding == 'torch' or size % 2 else 0
        pads = [(0, 0)] * 4
        pads[axis] = (before, 2 * out + 1 - size - before)
        padded = jnp.pad(x, pads, constant_values=fill)
        thirds = (
            jax.lax.slice_in_dim(padded, i, i + 2 * out - 1, stride=2, axis=axis) for i in range(3)
        )
        x = functools.reduce(jnp.maximum, thirds)
    return x


def rematerialised(target: Any, remat: str, **options: Any) -> Any:
    """A module class, or a function of a module, that keeps less for the backward pass."""
    return target if remat == 'none' else nn.remat(target, policy=REMAT[remat], **options)


def require(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ValueError(f'unknown {name} {value!r}; choose one of {", ".join(map(str, choices))}')
