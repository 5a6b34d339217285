"""How good frozen features are: logistic regression on them, judged like a fine-tuned model.

    python -m big_ssl.main --config=configs/linear_probe.py --workdir=runs/probe \
        --config.init_from=runs/micle --config.dataset.manifest=FILE.csv

Fitted on the labelled images of `train`, the penalty chosen on `val`; nothing is random. Without
`init_from` the features are those of random weights. --config.classifier=knn: nearest neighbours.
"""

from ml_collections import ConfigDict

from big_ssl.config import defaults
from big_ssl.variants import choose_variant


def get_config(variant: str = '') -> ConfigDict:
    config = defaults()
    config.task = 'evaluate'
    config.classifier = 'linear_probe'
    config.batch_size = 64
    return choose_variant(config, variant)
