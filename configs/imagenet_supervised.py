"""The baseline: supervised training on natural images, with SimCLR's augmentations.

    python -m big_ssl.main --config=configs/imagenet_supervised.py --workdir=runs/supervised \
        --config.dataset.manifest=imagenet.csv

What every self-supervised start is compared with: fine-tune it by `configs/derm_finetune.py
--config.init_from=runs/supervised`. The table needs labels in the splits `train` and
`val`. The augmentations are SimCLR's (code); the optimiser is that of Goyal et al. 2017
(arXiv:1706.02677), because the papers do not say.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'supervised'
    config.splits.evaluate = 'val'
    config.select = 'last'  # open
    config.batch_size = 1024  # open
    config.total_epochs = 90  # open
    config.warmup_epochs = 5  # open
    config.image_size = 224
    config.optimizer.name = 'sgd'  # open
    config.optimizer.momentum = 0.9
    config.optimizer.learning_rate = 0.1  # open
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-4  # open
    config.crop.area = (0.08, 1.0)
    config.crop.min_object_covered = 0.1  # code
    config.augment.jitter_strength = 1.0
    return choose_variant(config, variant)
