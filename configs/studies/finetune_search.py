"""Learning rate and weight decay of fine-tuning, picked on validation; test is not looked at.

    python -m big_ssl.study --config=configs/studies/finetune_search.py --workdir=studies/search \
        --config.every.dataset.manifest=FILE.csv --config.finetune.init_from=runs/micle

Seven learning rates, evenly spaced by their logarithm from 10^-3.5 to 10^-0.5, times four decays
(recalled). The report names the best pair as flags for configs/derm_finetune.py and the other
studies.

`:demo`: four pairs, embedded SYNTHETIC data, minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Fine-tuning search'
    config.seeds = (0,)
    config.methods = (('given', ()),)
    config.compared = ()
    config.learning_rates = tuple(round(10 ** (-3.5 + i / 2), 7) for i in range(7))
    config.weight_decays = (0.0, 1e-5, 1e-4, 1e-3)
    config.in_distribution = ''
    config.embed_split = ''
    settings.add_stages(config, variant, finetune='derm_finetune')
    config.finetune.splits.evaluate = 'val'
    if variant == 'demo':
        config.learning_rates, config.weight_decays = (0.01, 0.1), (0.0, 1e-4)
    return settings.choose_variant(config, variant)
