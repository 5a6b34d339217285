"""VICReg: views are alike, numbers vary over the batch and say different things; no negatives.

Bardes et al. 2022 (arXiv:2105.04906), section 4.1, whose weights and three layers of 8,192 these
are. Its batch statistics are those of the whole batch, on any number of devices.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from big_ssl.losses.float32 import EXACT
from big_ssl.methods import Key, Method
from big_ssl.methods import check_pairs as check
from big_ssl.models.heads import MLP
from big_ssl.models.networks import ContrastiveNetwork

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']

TASK, LABELS = 'contrastive', 'none'
KEYS = {
    'invariance': Key(25.0, 'weight of the distance of two views', 0),
    'variance': Key(25.0, 'weight of the deviation over the batch', 0),
    'covariance': Key(1.0, 'weight of the covariances', 0),
    'projection_layers': Key(3, 'dense layers of the head', 1, 8),
    'projection_size': Key(8192, 'width of each of them', 1),
}


class VICReg(Method):
    figures: ClassVar = {
        'loss': 'VICReg loss',
        'invariance': 'distance of two views (unweighted)',
        'variance': 'lack of deviation (unweighted)',
        'covariance': 'covariances (unweighted)',
    }
    parts: ClassVar = ('encoder', 'projection')

    @property
    def network(self) -> nn.Module:
        keys = self.config.method
        return ContrastiveNetwork(
            self.encoder, MLP((keys.projection_size,) * keys.projection_layers)
        )

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        z, batch_stats = views.through(self.network, params, state.batch_stats, 'z')
        keys = self.config.method
        with jax.named_scope('loss'):
            loss, figures = vicreg(
                z,
                invariance=keys.invariance,
                variance=keys.variance,
                covariance=keys.covariance,
            )
        return loss, figures, {'batch_stats': batch_stats}


def vicreg(
    z: Float[Array, 'b v d'],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the weighted sum of the three terms, and each of them, for v >= 2 views.

    Bardes et al. 2022 (arXiv:2105.04906), section 4.1; where the paper and the authors' code
    (github.com/facebookresearch/vicreg) differ by a factor, as the code:

      invariance: the squared difference, mean over pairs of views, examples and dimensions;
      variance: relu(1 - sqrt(var + 1e-4)), mean over views and dimensions;
      covariance: the squares off the diagonal of the covariance matrix over d, mean over views,
        times 2 (their sum over two views).

    Variances and covariances are over the b examples of one view, divided by b - 1.

    Args:
      z: projections in any float dtype, not normalised; computed in float32. The whole batch: under
        jit it may be sharded over its first axis.
      invariance: weight of that term, as the next two.

    Returns:
      The loss, float32, and the terms without their weights.

    Raises:
      ValueError: for a shape that is not [b >= 2, v >= 2, d].
    """
    if z.ndim != 3 or min(z.shape[:2]) < 2:
        raise ValueError(f'expected z [b >= 2, v >= 2, d], got {z.shape}')
    z = z.astype(jnp.float32)
    examples, views, dim = z.shape
    centred = z - z.mean(axis=0, keepdims=True)
    matrices = jnp.einsum('bvd,bve->vde', centred, centred, **EXACT) / (examples - 1)
    off_diagonal = matrices * (1 - jnp.eye(dim)[None])
    deviations = jnp.sqrt(jnp.diagonal(matrices, axis1=1, axis2=2) + 1e-4)
    terms = {
        # The mean squared difference of all pairs is twice the variance over the views.
        'invariance': 2 * jnp.mean(jnp.var(z, axis=1, ddof=1)),
        'variance': jnp.mean(jax.nn.relu(1 - deviations)),
        'covariance': 2 / (views * dim) * jnp.sum(off_diagonal**2),
    }
    loss = (
        invariance * terms['invariance']
        + variance * terms['variance']
        + covariance * terms['covariance']
    )
    return loss, jax.lax.stop_gradient(terms)


make = VICReg
