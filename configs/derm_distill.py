"""A smaller network learns what a fine-tuned one says of images that need no labels.

    python -m big_ssl.main --config=configs/derm_distill.py --workdir=runs/distilled \
        --config.dataset.manifest=FILE.csv --config.method.teacher=runs/finetuned

Step 3 of SimCLR v2 (Chen et al. 2020, arXiv:2006.10029, section 2.3). What comes out is a
classifier: judge it by configs/derm_finetune.py with --config.task=evaluate. The student is of
`model.depth` and `model.width`, the teacher as it was trained. With
--config.method.imitate=features the teacher may be any encoder.

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set, with a teacher of
configs/derm_finetune.py:demo.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.method.name = 'distill'
    config.method.imitate = 'logits'
    config.method.temperature = 1.0  # recalled
    config.pairing = 'augment'
    config.views = 1  # of an image
    config.batch_size = 512  # as derm_simclr.py
    config.total_epochs = None
    config.total_steps = 150_000
    config.warmup_epochs = 10
    config.image_size = 224
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.3
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.augment.jitter_strength = 0.5  # open; the published run crops and flips alone (recalled)
    config.crop.min_object_covered = 0.1  # as derm_simclr.py
    return choose_variant(config, variant)
