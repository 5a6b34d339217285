"""Step 2 of the method, with cases: MICLe, positive pairs from two different images of one case.

    python -m big_ssl.main --config=configs/derm_micle.py --workdir=runs/micle \
        --config.dataset.manifest=FILE.csv --config.init_from=runs/simclr

Reads the split `train` alone. The published run starts from SimCLR on the same images
(configs/derm_simclr.py). A case with one image gives two crops of it (recalled).

`:demo` takes minutes on two CPU cores, on the embedded SYNTHETIC phantom set.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.pairing = 'case'
    config.method.mask_same_patient = True  # open: several cases of a patient in a batch; masked
    config.batch_size = 128  # recalled
    config.total_epochs = None
    config.total_steps = 100_000  # recalled
    config.warmup_epochs = 10
    config.image_size = 224  # recalled
    config.optimizer.name = 'lars'
    config.optimizer.learning_rate = 0.1  # recalled; open whether base or final rate: taken as base
    config.optimizer.scaling = 'linear'
    config.optimizer.weight_decay = 1e-6
    config.method.temperature = 0.1
    config.crop.min_object_covered = 0.1  # code
    return choose_variant(config, variant, {'method.temperature': 0.2})
