"""The chest X-ray comparison: five pathologies, and another hospital's films.

    python -m big_ssl.study --config=configs/studies/chexpert.py --workdir=studies/chexpert \
        --config.every.dataset.manifest=chexpert.csv --config.natural_manifest=imagenet.csv \
        --config.elsewhere_manifest=chestxray14.csv --config.elsewhere.labels.map=chestxray14

The published figure is the mean AUC of the five pathologies. What an uncertain label is in
training: --config.finetune.labels.uncertain= zeros, ones, ignore, own_class. A table with one label
an image instead (normal or pneumonia, say): --config.finetune.labels.kind=single
--config.finetune.labels.classes="()" --config.finetune.labels.other= and
--config.elsewhere.labels.other= . Where the images of a case carry different labels there:
--config.elsewhere.aggregate=none judges images one by one.

`:demo`: the embedded SYNTHETIC data, minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Chest X-rays: which pre-training?'
    config.methods = (
        ('random', ()),
        ('supervised', ('supervised',)),
        ('simclr_natural', ('simclr_natural',)),
        ('simclr', ('simclr',)),
        ('stacked', ('simclr_natural', 'simclr')),
    )
    config.baseline = 'supervised'
    config.comparisons = (('stacked', 'simclr_natural'),)
    config.compared = ('auc_macro',)
    settings.add_stages(config, variant, simclr='chexpert_simclr', finetune='chexpert_finetune')
    config.elsewhere.labels.other = 'ignore'
    if variant == 'demo':
        config.only = ('random', 'supervised', 'simclr')
    return settings.choose_variant(config, variant)
