"""Pre-training by BYOL: views predict each other, against an average of the network.

    python -m big_ssl.main --config=configs/derm_byol.py --workdir=runs/byol \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Grill et al. 2020 (arXiv:2006.07733). Its two views differ in their augmentation (one is blurred
always, the other solarized at times); ours are drawn alike, as SimCLR's. With --config.pairing=case
two images of a case predict each other.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.method.name = 'byol'
    config.method.average = 0.996  # section 3.3
    config.method.hidden_size = 4096  # section 3.3
    config.method.projection_size = 256  # section 3.3
    config.pairing = 'augment'
    config.batch_size = 512  # as derm_simclr.py; published: 4096
    config.total_epochs = None
    config.total_steps = 150_000  # as derm_simclr.py
    config.warmup_epochs = 10  # section 3.3
    config.image_size = 224
    config.optimizer.name = 'lars'  # section 3.3
    config.optimizer.learning_rate = 0.2  # section 3.3: of 1000 epochs
    config.optimizer.scaling = 'linear'  # section 3.3
    config.optimizer.weight_decay = 1.5e-6  # section 3.3
    config.crop.min_object_covered = 0.1  # as derm_simclr.py
    small = {'method.hidden_size': 256, 'method.projection_size': 64, 'method.average': 0.98}
    return choose_variant(config, variant, small)
