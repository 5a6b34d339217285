"""The dermatology comparison: does pre-training help, which, here and at another clinic?

    python -m big_ssl.study --config=configs/studies/derm.py --workdir=studies/derm \
        --config.every.dataset.manifest=FILE.csv --config.natural_manifest=imagenet.csv

| method | before fine-tuning |
|---|---|
| random | nothing |
| supervised | natural images with labels: the baseline |
| simclr_natural | SimCLR on natural images |
| simclr | SimCLR on the dermatology images, from random weights |
| stacked | SimCLR on natural, then on dermatology images |
| micle | stacked, then MICLe |
| stacked_longer | stacked, then MICLe's settings but pairs of one image: to compare its pairs |

Fine-tuning's settings decide much. A search on validation, each method judged with its own best:
--config.learning_rates="(0.03, 0.1, 0.3)" --config.weight_decays="(1e-4,)". With a tenth of the
labels: --config.label_fractions="(0.1,)" --config.label_draws="(0, 1)".

Whoever changes `micle` (its steps, say) changes `simclr_on` too. Without `natural_manifest` the
methods that need one are left out (then give --config.baseline=random). Another clinic is a split
of the same table (--config.shift=SPLIT) or a table of its own
(--config.elsewhere_manifest=OTHER.csv).

`:demo`: three methods, two seeds, a few steps each on embedded SYNTHETIC data (also in place of
natural images), minutes on two CPU cores: it shows the machinery, its figures say nothing.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Dermatology: which pre-training?'
    config.methods = (
        ('random', ()),
        ('supervised', ('supervised',)),
        ('simclr_natural', ('simclr_natural',)),
        ('simclr', ('simclr',)),
        ('stacked', ('simclr_natural', 'simclr')),
        ('stacked_longer', ('simclr_natural', 'simclr', 'simclr_on')),
        ('micle', ('simclr_natural', 'simclr', 'micle')),
    )
    config.baseline = 'supervised'
    config.comparisons = (('stacked', 'simclr_natural'), ('micle', 'stacked_longer'))
    settings.add_stages(
        config,
        variant,
        simclr='derm_simclr',
        micle='derm_micle',
        simclr_on='derm_micle',
        finetune='derm_finetune',
    )
    config.simclr_on.pairing = 'augment'
    if variant == 'demo':
        config.only = ('random', 'supervised', 'micle')
        config.comparisons = (('micle', 'random'),)
    return settings.choose_variant(config, variant)
