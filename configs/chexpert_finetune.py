"""Step 3 of the method on chest X-rays: five pathologies, each present or not.

    python -m big_ssl.main --config=configs/chexpert_finetune.py --workdir=runs/finetuned \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/simclr

Labels are joined by `|`; `Edema?` is an uncertain one, and a pathology that a labelled row does not
name is absent ("not mentioned" counts as negative: open). What an uncertain label is in training:
`--config.labels.uncertain=` zeros, ones, ignore (that class of that image is left out) or own_class
(a third outcome), as in CheXpert (Irvin et al. 2019). Where a model is judged, uncertain labels are
left out.

Each image is judged by itself, as the published figures are (recalled).

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant

PATHOLOGIES = ('Atelectasis', 'Cardiomegaly', 'Consolidation', 'Edema', 'Pleural Effusion')


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'supervised'
    config.labels.kind = 'multi'
    config.labels.classes = PATHOLOGIES
    config.labels.other = 'ignore'  # CheXpert has nine further labels
    config.labels.negative = 'No Finding'
    config.labels.uncertain = 'ignore'  # open
    config.aggregate = 'none'  # recalled
    config.batch_size = 256  # recalled
    config.total_epochs = None
    config.total_steps = 30_000  # recalled
    config.warmup_epochs = None
    config.warmup_percent = 5.0  # open
    config.monitor_every_percent = 5.0
    config.checkpoint_every_percent = 5.0
    config.image_size = 224  # recalled
    config.optimizer.name = 'sgd'  # recalled
    config.optimizer.momentum = 0.9  # recalled
    config.optimizer.learning_rate = 0.01  # recalled: searched in 10^-3.5 … 10^-0.5 on validation
    config.optimizer.scaling = 'none'
    config.optimizer.weight_decay = 1e-4  # recalled: one of 0, 1e-5, 1e-4, 1e-3, on validation
    config.augment.jitter_strength = 0.5
    config.augment.rotation_degrees = 45.0
    config.augment.blur_probability = 0.0
    config.augment.grey_probability = 0.0
    config.crop.area = (0.3, 1.0)  # open
    return choose_variant(config, variant)
