"""SimCLR, and MICLe, which is SimCLR with pairs of two images of a case (`pairing=case`).

NT-Xent on the projections of two views (Chen et al. 2020, arXiv:2002.05709; Azizi et al. 2021,
arXiv:2101.05224).
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from big_ssl.losses.ntxent import nt_xent
from big_ssl.methods import Key, Method
from big_ssl.methods import check_pairs as check
from big_ssl.models.heads import ProjectionHead
from big_ssl.models.networks import ContrastiveNetwork

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']

TASK, LABELS = 'contrastive', 'none'
KEYS = {
    'temperature': Key(0.1, 'of the similarities', 1e-4),
    'mask_same_patient': Key(True, "images of the anchor's patient are not its negatives"),
    'projection_layers': Key(2, 'dense layers of the head', 1, 8),
    'projection_size': Key(128, 'numbers that the head gives', 1),
}


class SimCLR(Method):
    figures: ClassVar = {
        'loss': 'NT-Xent loss (nats)',
        'contrastive_top1': 'positive beats all negatives',
    }
    parts: ClassVar = ('encoder', 'projection')

    @property
    def title(self) -> str:
        return 'MICLe' if self.config.pairing == 'case' else 'SimCLR'

    @property
    def network(self) -> nn.Module:
        keys = self.config.method
        head = ProjectionHead(keys.projection_layers, keys.projection_size)
        return ContrastiveNetwork(self.encoder, head)

    def groups(self, views: Any) -> Int[Array, ' b']:
        """Examples with equal numbers are never each other's negatives."""
        masked = self.config.method.mask_same_patient
        return views.groups if masked else jnp.arange(len(views.groups))

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        z, batch_stats = views.through(self.network, params, state.batch_stats, 'z')
        with jax.named_scope('loss'):
            loss, figures = self.contrast(z, self.groups(views), views)
        return loss, figures, {'batch_stats': batch_stats}

    def contrast(self, z: Float[Array, 'b v d'], groups: Int[Array, ' b'], views: Any) -> Any:
        """The loss of these projections, and its figures; `groups` are those of the mask."""
        return nt_xent(z, groups, self.config.method.temperature, mesh=self.mesh)


make = SimCLR
