"""What `:demo` changes in a config."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.run_keys import PRETRAINING


def choose_variant(
    config: ConfigDict, variant: str, demo: Mapping[str, Any] | None = None
) -> ConfigDict:
    """`''` leaves the published setting, `'demo'` makes it run in minutes on two CPU cores.

    The demo reads the embedded SYNTHETIC phantom set (with `dataset.manifest`: your own images) and
    trains a small network on small images, mildly augmented: short trials with stronger views had
    not begun to learn (BUILD_NOTES.md).

    Args:
      demo: what the demo of this config changes besides, by dotted keys.

    Raises:
      InputError: another variant.
    """
    if variant == 'demo':
        config.dataset.name = 'phantom'
        config.image_size = 80
        config.model.name = 'resnet18x0.25'
        config.batch_size = 64
        config.log_every_steps = 20
        config.total_epochs = None
        config.warmup_epochs = None
        config.warmup_percent = 5.0
        config.labels.classes, config.labels.other = (), ''
        tune = _demo_pretraining if config.task == PRETRAINING else _demo_finetuning
        tune(config)
        config.update_from_flattened_dict(demo or {})
    elif variant:
        raise InputError(f'config: unknown variant {variant!r}; the only one is :demo')
    return config


def _demo_pretraining(config: ConfigDict) -> None:
    config.total_steps = 700
    config.optimizer.name = 'adam'
    config.optimizer.learning_rate = 0.002
    config.optimizer.scaling = 'none'
    config.optimizer.weight_decay = 1e-4
    config.crop.area = (0.6, 1.0)
    config.augment.jitter_strength = 0.3
    config.augment.blur_probability = 0.0
    config.augment.flip_vertical = 0.5


def _demo_finetuning(config: ConfigDict) -> None:
    config.total_steps = 200
    config.monitor_every_percent = 10.0
    config.checkpoint_every_percent = 10.0
    config.optimizer.learning_rate = 0.05
