"""VICReg: views are alike, numbers vary over the batch and say different things; no negatives.

Bardes et al. 2022 (arXiv:2105.04906), section 4.1, whose weights and three layers of 8,192 these
are. Its batch statistics are those of the whole batch, on any number of devices.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax

from big_ssl.losses.vicreg import vicreg
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


make = VICReg
