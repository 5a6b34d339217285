"""A fine-tuned model's predictions for images with or without labels, as CSV and Parquet.

    python -m big_ssl.main --config=configs/predict.py --workdir=runs/predicted \
        --config.init_from=runs/finetuned --config.dataset.manifest=NEW.csv

Every row of the table, a line a case; --config.aggregate=none: a line an image. Network, image size
and kind of labels are those of the model.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'predict'
    config.splits.evaluate = 'all'
    config.batch_size = 64
    return choose_variant(config, variant)
