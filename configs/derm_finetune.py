"""Step 3 of the method: fine-tuning of all weights with labels, then evaluation.

    python -m big_ssl.main --config=configs/derm_finetune.py --workdir=runs/finetuned \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/micle

Trains on `train`, picks the checkpoint on `val`, judges `val` and each of `splits.evaluate`, joined
by '+' (--config.splits.evaluate=test+shift_test). To judge a trained model elsewhere, untrained:

    python -m big_ssl.main --config=configs/derm_finetune.py --workdir=runs/elsewhere \
        --config.task=evaluate --config.init_from=runs/finetuned \
        --config.dataset.manifest=OTHER.csv --config.splits.evaluate=test

Without `init_from` training starts from random weights: the baseline that every result needs.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'supervised'
    config.batch_size = 256  # recalled
    config.total_epochs = None
    config.total_steps = 30_000  # recalled
    config.warmup_epochs = None
    config.warmup_percent = 5.0  # open
    config.monitor_every_percent = 5.0
    config.checkpoint_every_percent = 5.0
    config.image_size = 448  # recalled
    config.optimizer.name = 'sgd'  # recalled
    config.optimizer.momentum = 0.9  # recalled
    config.optimizer.learning_rate = 0.01  # recalled: searched in 10^-3.5 … 10^-0.5 on validation
    config.optimizer.scaling = 'none'
    config.optimizer.weight_decay = 1e-4  # recalled: one of 0, 1e-5, 1e-4, 1e-3, on validation
    config.augment.jitter_strength = 0.5  # open; public: colour, crop, blur, rotation, flips
    config.augment.grey_probability = 0.0  # open
    config.augment.flip_vertical = 0.5  # open
    config.augment.rotation_degrees = 45.0  # open
    config.crop.area = (0.3, 1.0)  # open
    return choose_variant(config, variant)
