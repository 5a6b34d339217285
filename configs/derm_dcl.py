"""Pre-training by DCL, SimCLR's loss with decoupled denominators, on dermatology images.

    python -m big_ssl.main --config=configs/derm_dcl.py --workdir=runs/dcl \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Yeh et al. 2021 (arXiv:2110.06848): its gain is largest with batches of 256 and below. Everything
but loss and batch is as in configs/derm_simclr.py; with --config.pairing=case pairs are two images
of a case.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.method.name = 'dcl'
    config.method.temperature = 0.1  # recalled: of its ImageNet runs
    config.pairing = 'augment'
    config.batch_size = 256  # recalled
    config.total_epochs = None
    config.total_steps = 150_000  # as derm_simclr.py
    config.warmup_epochs = 10
    config.image_size = 224
    config.optimizer.name = 'lars'  # as derm_simclr.py
    config.optimizer.learning_rate = 0.3
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.crop.min_object_covered = 0.1  # as derm_simclr.py
    return choose_variant(config, variant, {'method.temperature': 0.2})
