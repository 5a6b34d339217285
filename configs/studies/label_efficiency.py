"""How many labels does pre-training save? Fine-tuning with 10% to 100% of the labelled patients.

    python -m big_ssl.study --config=configs/studies/label_efficiency.py --workdir=studies/labels \
        --config.every.dataset.manifest=FILE.csv --config.natural_manifest=imagenet.csv

Fractions are of patients (of cases where no patient is known), drawn several times, stratified,
each within the next larger one. Validation is reduced alike (--config.finetune.labels.val=full:
not). Every fine-tuning takes the same number of steps. "Labels needed" is the smallest fraction
whose paired interval against the baseline with all labels excludes a loss of more than `margin`.

`:demo`: two fractions, embedded SYNTHETIC data, minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Label efficiency'
    config.methods = (
        ('supervised', ('supervised',)),
        ('simclr_natural', ('simclr_natural',)),
        ('micle', ('simclr_natural', 'simclr', 'micle')),
    )
    config.baseline = 'supervised'
    config.compared = ('auc_macro',)
    config.label_fractions = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    config.label_draws = (0, 1, 2)
    config.embed_split = ''
    settings.add_stages(
        config,
        variant,
        simclr='derm_simclr',
        micle='derm_micle',
        finetune='derm_finetune',
    )
    if variant == 'demo':
        config.only = ('supervised', 'micle')
        config.label_fractions = (0.2, 1.0)
        config.label_draws = (0, 1)
    return settings.choose_variant(config, variant)
