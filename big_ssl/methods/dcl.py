"""DCL, decoupled contrastive learning: NT-Xent whose denominators hold the negatives alone.

Yeh et al. 2021 (arXiv:2110.06848), eq. 6. Small batches lose less by it. MICLe's pairs go with it
as with SimCLR (`pairing=case`).
"""

from typing import Any, ClassVar

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

    def contrast(self, z: Any, groups: Any, views: Any) -> Any:
        temperature = self.config.method.temperature
        return nt_xent(z, groups, temperature, mesh=self.mesh, decoupled=True)


make = DCL
