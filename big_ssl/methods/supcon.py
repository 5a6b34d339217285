"""SupCon: images of one class are positives of each other, as far as classes are known.

Khosla et al. 2020 (arXiv:2004.11362), eq. 2. An image without a label, or one that
`label_fraction` leaves out, has its own views as positives, as with SimCLR.
"""

from typing import Any, ClassVar

from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.losses.supcon import supcon
from big_ssl.methods import Method, simclr
from big_ssl.methods.simclr import KEYS, TASK

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']

LABELS = 'some'


def check(config: ConfigDict) -> None:
    simclr.check(config)
    if config.labels.kind != 'single':
        raise InputError('config: method.name=supcon needs one class an image, labels.kind=single')


class SupCon(simclr.SimCLR):
    figures: ClassVar = {
        'loss': 'SupCon loss (nats)',
        'contrastive_top1': 'own view beats all negatives',
        'positives': 'positives an anchor',
    }
    title = Method.title
    name: ClassVar = 'SupCon'

    def contrast(self, z: Any, groups: Any, views: Any) -> Any:
        labels = views.each['targets']
        return supcon(z, labels, groups, self.config.method.temperature, mesh=self.mesh)


make = SupCon
