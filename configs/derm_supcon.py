"""Pre-training by SupCon: images of one class are positives, as far as labels are known.

    python -m big_ssl.main --config=configs/derm_supcon.py --workdir=runs/supcon \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Khosla et al. 2020 (arXiv:2004.11362). `label_fraction` leaves out labels, not images: an image
without a label has its own views as positives. Everything but the loss is as in
configs/derm_simclr.py.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.method.name = 'supcon'
    config.method.temperature = 0.1  # recalled: of its ImageNet runs
    config.pairing = 'augment'
    config.batch_size = 512  # as derm_simclr.py
    config.total_epochs = None
    config.total_steps = 150_000
    config.warmup_epochs = 10
    config.image_size = 224
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.3
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.crop.min_object_covered = 0.1  # as derm_simclr.py
    return choose_variant(config, variant, {'method.temperature': 0.2})
