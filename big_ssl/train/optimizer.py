"""Optimisers by name, each with the masks that say which parameters it decays and adapts.

A mask reads the parameter's path alone. Kernels are decayed; the scales and shifts of batch
normalisation and the biases of dense layers are not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from big_ssl.errors import InputError

OPTIMIZERS = ('lars', 'sgd', 'adam')
_TRUST = 0.001


def make_optimizer(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Returns the optimiser `name`, one of OPTIMIZERS.

    'lars' (You et al. 2017, arXiv:1708.03888, as SimCLR's code has it), with g' = g + decay * w:

      v <- momentum * v + rate * ratio * g',   w <- w - v,   ratio = 0.001 * |w| / |g'|,

    the ratio being 1 where a norm is 0. Only kernels outside `classifier` are decayed and adapted;
    everything else has g' = g and ratio 1. optax.lars does exactly this once both of its masks are
    given; without them it decays and adapts every parameter.

    'sgd' adds decay * w to the gradients of kernels, then v <- momentum * v + g', w <- w - rate * v
    (torch's momentum: the rate is outside v); `nesterov` steps by g' + momentum * v instead.

    'adam' is AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101): b1 is `momentum`, b2 0.999, and
    kernels shrink by rate * decay apart from the gradient.

    Raises:
      InputError: for an unknown name, or `nesterov` with another optimiser than 'sgd'.
    """
    if name not in OPTIMIZERS:
        raise InputError(f'optimizer.name is {name!r}; choose one of {", ".join(OPTIMIZERS)}')
    if nesterov and name != 'sgd':
        raise InputError(f'optimizer.nesterov works with sgd only, and optimizer.name is {name!r}')
    if name == 'lars':
        return optax.lars(
            learning_rate,
            weight_decay,
            weight_decay_mask=adapted,
            trust_coefficient=_TRUST,
            trust_ratio_mask=adapted,
            momentum=momentum,
        )
    if name == 'sgd':
        return optax.chain(
            optax.add_decayed_weights(weight_decay, mask=kernels),
            optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov),
        )
    return optax.adamw(learning_rate, b1=momentum, weight_decay=weight_decay, mask=kernels)


def trust_ratios(gradients: Any, params: Any, weight_decay: float) -> dict[str, jax.Array]:
    """`trust_ratio_min` and `trust_ratio_max`, float32: of the layers that 'lars' adapts.

    A ratio is that of one kernel, by optax's own arithmetic, which keeps none of them.

    Args:
      gradients: a tree like `params`.
      params: those that the update is added to.
    """

    def ratio(adapts: bool, g: jax.Array, w: jax.Array) -> jax.Array | None:
        if not adapts:
            return None
        of_params, of_update = (optax.safe_norm(x, 0.0) for x in (w, g + weight_decay * w))
        still = (of_params == 0) | (of_update == 0)
        return jnp.where(still, 1.0, _TRUST * of_params / of_update)

    ratios = jax.tree.leaves(jax.tree.map(ratio, adapted(params), gradients, params))
    if not ratios:
        return {}
    return {'trust_ratio_min': jnp.stack(ratios).min(), 'trust_ratio_max': jnp.stack(ratios).max()}


def kernels(params: Any) -> Any:
    """A tree like `params`, true at the kernels of convolutions and dense layers."""
    return jax.tree.map_with_path(lambda path, _: _names(path)[-1] == 'kernel', params)


def adapted(params: Any) -> Any:
    """A tree like `params`, true at the kernels that are not part of `classifier`."""

    def is_adapted(path, _):
        names = _names(path)
        return names[-1] == 'kernel' and 'classifier' not in names

    return jax.tree.map_with_path(is_adapted, params)


def _names(path) -> list[str]:
    return [str(key.key) for key in path]
