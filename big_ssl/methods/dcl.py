"""DCL, decoupled contrastive learning: NT-Xent whose denominators hold the negatives alone.

Yeh et al. 2021 (arXiv:2110.06848), eq. 6. Small batches lose less by it. MICLe's pairs go with it
as with SimCLR (`pairing=case`).
"""

from typing import Any, ClassVar

import jax

from big_ssl.losses.ntxent import nt_xent
from big_ssl.methods import Method, simclr
from big_ssl.methods.simclr import KEYS, LABELS, TASK, check

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']


class DCL(simclr.SimCLR):
    figures: ClassVar = {
        'loss': 'decoupled contrastive loss (nats)',
        'contrastive_top1': 'positive beats all negatives',
    }
    title = Method.title
    name: ClassVar = 'DCL'

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        z, batch_stats = views.through(self.network, params, state.batch_stats, 'z')
        temperature = self.config.method.temperature
        with jax.named_scope('loss'):
            loss, figures = nt_xent(
                z, self.groups(views), temperature, mesh=self.mesh, decoupled=True
            )
        return loss, figures, {'batch_stats': batch_stats}


make = DCL
