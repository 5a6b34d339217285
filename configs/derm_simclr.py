"""Step 2 of the method, without cases: SimCLR on dermatology images.

    python -m big_ssl.main --config=configs/derm_simclr.py --workdir=runs/simclr \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Reads the split `train` alone. The published run starts from SimCLR on ImageNet; without `init_from`
it starts from random weights.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.pairing = 'augment'
    config.batch_size = 512  # recalled
    config.total_epochs = None
    config.total_steps = 150_000  # recalled
    config.warmup_epochs = 10
    config.image_size = 224  # recalled
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.3  # recalled; open whether base or final rate: taken as base
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.method.temperature = 0.1
    config.crop.min_object_covered = 0.1  # code
    config.augment.jitter_strength = 1.0  # recalled
    return choose_variant(config, variant, {'method.temperature': 0.2})
