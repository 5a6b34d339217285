"""A trained encoder's features of images, as CSV and Parquet, and a map of them.

    python -m big_ssl.main --config=configs/embed.py --workdir=runs/embedded \
        --config.init_from=runs/micle --config.dataset.manifest=FILE.csv

Every row of the table, a line an image. Without `init_from` the weights are random.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'embed'
    config.splits.evaluate = 'all'
    config.batch_size = 64
    return choose_variant(config, variant)
