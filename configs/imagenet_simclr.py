"""Step 1 of the method: SimCLR on natural images, from random weights.

    python -m big_ssl.main --config=configs/imagenet_simclr.py --workdir=runs/imagenet \
        --config.dataset.manifest=imagenet.csv

The setting of SimCLR's public code for its longest run: ResNet-50, batch 4,096, 1,000 epochs. That
the medical papers started from exactly this run is recalled, not read.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.pairing = 'augment'
    config.batch_size = 4096
    config.total_epochs = 1000  # recalled
    config.warmup_epochs = 10
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.3
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.method.temperature = 0.1
    config.crop.min_object_covered = 0.1  # code
    return choose_variant(config, variant, {'method.temperature': 0.2})
