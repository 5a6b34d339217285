"""Step 2 of the method on chest X-rays: SimCLR.

    python -m big_ssl.main --config=configs/chexpert_simclr.py --workdir=runs/simclr \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/imagenet

Reads the split `train` alone, without labels. Where the table has studies of several views as
cases, `--config.pairing=case` makes it MICLe.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.pairing = 'augment'
    config.labels.kind = 'multi'
    config.batch_size = 1024  # recalled
    config.total_epochs = None
    config.total_steps = 100_000  # recalled
    config.warmup_epochs = 10
    config.image_size = 224  # recalled
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.5  # recalled; open whether base or final rate: taken as base
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.method.temperature = 0.1  # recalled: searched in 0.1, 0.5, 1
    config.crop.min_object_covered = 0.1  # code
    config.augment.jitter_strength = 0.5
    config.augment.rotation_degrees = 45.0
    config.augment.flip_horizontal = 0.5
    config.augment.blur_probability = 0.0
    config.augment.grey_probability = 0.0  # grey already
    return choose_variant(config, variant, {'method.temperature': 0.2})
