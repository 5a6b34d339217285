"""Do wider and deeper networks gain more? The paper's three: ResNet-50 (1x), ResNet-50 (4x),
ResNet-152 (2x).

    python -m big_ssl.study --config=configs/studies/architectures.py --workdir=studies/networks \
        --config.every.dataset.manifest=FILE.csv --config.natural_manifest=imagenet.csv

Other networks: --config.networks="('resnet18', 'bit50x1', 'vit_s16')", by their names or by keys of
`config.model`: "({'name': 'vit', 'depth': 6}, {'name': 'vit', 'depth': 12})".

`:demo`: two small networks, embedded SYNTHETIC data, minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from big_ssl.studies import settings


def get_config(variant: str = '') -> ConfigDict:
    config = settings.defaults()
    config.title = 'Architectures'
    config.methods = (
        ('supervised', ('supervised',)),
        ('simclr_natural', ('simclr_natural',)),
        ('micle', ('simclr_natural', 'simclr', 'micle')),
    )
    config.baseline = 'supervised'
    config.networks = ('resnet50', 'resnet50x4', 'resnet152x2')
    config.embed_split = ''
    settings.add_stages(
        config,
        variant,
        simclr='derm_simclr',
        micle='derm_micle',
        finetune='derm_finetune',
    )
    if variant == 'demo':
        config.only = ('supervised', 'simclr_natural')
        config.networks = ('resnet18x0.25', 'resnet18x0.5')
    return settings.choose_variant(config, variant)
