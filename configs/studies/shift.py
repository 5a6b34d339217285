"""Does the gain hold at another clinic, without any further training?

    python -m big_ssl.study --config=configs/studies/shift.py --workdir=studies/shift \
        --config.every.dataset.manifest=HERE.csv --config.natural_manifest=imagenet.csv \
        --config.elsewhere_manifest=THERE.csv --config.elsewhere.labels.map=THEIRS.csv

The other clinic is a table of its own, its label names translated by a map
(configs/shift_evaluate.py), or a split of the same table (--config.shift=SPLIT in place of the
manifest). The headline is the macro AUC over the classes that both have, beside how often each
class is seen here and there.

`:demo`: the embedded SYNTHETIC data, minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Distribution shift'
    config.methods = (
        ('supervised', ('supervised',)),
        ('simclr_natural', ('simclr_natural',)),
        ('stacked', ('simclr_natural', 'simclr')),
        ('micle', ('simclr_natural', 'simclr', 'micle')),
    )
    config.baseline = 'supervised'
    config.compared = ('auc_macro',)
    settings.add_stages(
        config,
        variant,
        simclr='derm_simclr',
        micle='derm_micle',
        finetune='derm_finetune',
    )
    if variant == 'demo':
        config.only = ('supervised', 'micle')
    return settings.choose_variant(config, variant)
