"""A trained model on another clinic's data, without any training.

    python -m big_ssl.main --config=configs/shift_evaluate.py --workdir=runs/elsewhere \
        --config.init_from=runs/finetuned --config.dataset.manifest=OTHER.csv

Judges every row that has a label (a table with splits: --config.splits.evaluate=test). Where the
clinic calls things differently, a CSV with the columns label and class translates
(--config.labels.map=THEIRS.csv, an empty class leaves a label out), and
--config.labels.other=ignore leaves out whatever the model does not know. Network, image size and
kind of labels are those of the model. Thresholds are those that training chose on its own
validation split, for the checkpoint that it judged; another one has none.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'evaluate'
    config.splits.evaluate = 'all'
    config.batch_size = 64
    return choose_variant(config, variant)
