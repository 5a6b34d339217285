"""Pre-training by VICReg: views alike, numbers spread over the batch and not correlated.

    python -m big_ssl.main --config=configs/derm_vicreg.py --workdir=runs/vicreg \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Bardes et al. 2022 (arXiv:2105.04906). With --config.pairing=case two images of a case are made
alike.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.method.name = 'vicreg'
    config.method.invariance = 25.0  # section 4.2
    config.method.variance = 25.0  # section 4.2
    config.method.covariance = 1.0  # section 4.2
    config.method.projection_layers = 3  # section 4.2
    config.method.projection_size = 8192  # section 4.2
    config.pairing = 'augment'
    config.batch_size = 512  # as derm_simclr.py; published: 2048
    config.total_epochs = None
    config.total_steps = 150_000  # as derm_simclr.py
    config.warmup_epochs = 10  # section 4.2
    config.image_size = 224
    config.optimizer.name = 'lars'  # section 4.2
    config.optimizer.learning_rate = 0.2  # section 4.2
    config.optimizer.scaling = 'linear'  # section 4.2
    config.optimizer.weight_decay = 1e-6  # section 4.2
    config.crop.min_object_covered = 0.1  # as derm_simclr.py
    return choose_variant(
        config, variant, {'method.projection_size': 256, 'method.invariance': 5.0}
    )
