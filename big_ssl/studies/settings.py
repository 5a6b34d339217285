"""The settings of a study: which methods are compared, along which axes, how each stage trains.

A file in `configs/studies/` starts from `defaults()` and adds its methods and stages. Whatever a
run takes as `--config.KEY` a study takes as `--config.STAGE.KEY`, or for all its stages at once as
`--config.every.KEY`. What a command line says wins over what a file says, and then a stage's own
setting over that for all. What describes a table (its columns, labels and splits) does not reach
the stages that read another one, natural images or another clinic's.
"""

import copy
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict, config_dict

from big_ssl import config as config_lib
from big_ssl import methods as methods_lib
from big_ssl import models
from big_ssl.errors import InputError
from big_ssl.keys import nearest
from big_ssl.run_keys import DURATIONS, KEYS, UNITS

_HERE = Path(__file__).parent.parent.parent / 'configs'
CONFIGS = Path('configs') if Path('configs/studies').is_dir() else _HERE
DEMO_STEPS, DEMO_PIXELS = 40, 48  # of each stage
FILE = 'file'  # of a stage: the name of its config, and :VARIANT
FINETUNE, ELSEWHERE, EMBED = 'finetune', 'elsewhere', 'embed'
_OF_TABLE = ('dataset.columns.', 'dataset.image_root', 'labels.', 'splits.')


def defaults() -> ConfigDict:
    """Every key that all studies have."""
    config = ConfigDict()
    config.title = ''
    config.seeds = (0, 1, 2)  # of a whole chain, pre-training included: replicates of a method
    config.finetunings = 1  # of each pre-training; more of them are no further replicates
    config.methods = ()  # (METHOD, stages of pre-training one after the other) pairs
    config.only = ()  # of the methods; (): all
    config.baseline = ''  # the method that each other one is compared with
    config.comparisons = ()  # further pairs (METHOD, METHOD)
    config.compared = ('auc_macro', 'top1')  # figures whose differences are tested
    config.margin = 0.02  # a smaller loss of the first of `compared` is accepted as none

    config.networks = ()  # resnet152x2, vit_s16 … or keys of `model`; (): that of the stages
    config.label_fractions = (1.0,)
    config.label_draws = (0,)  # which patients, where a fraction is below 1
    config.learning_rates = ()  # of fine-tuning: each method is judged with its best on val
    config.weight_decays = ()

    config.natural_manifest = config_dict.placeholder(str)  # labelled natural images
    config.natural_stages = ()  # those that read it
    config.in_distribution = 'test'  # '': not looked at
    config.shift = ''  # a split of another clinic in the same table
    config.elsewhere_manifest = config_dict.placeholder(str)  # another clinic's own table
    config.embed_split = 'test'  # embeddings are drawn of these images; '': none are
    config.embedding_map = 'pca'  # pca | umap (needs the package umap-learn)
    config.subgroups = ()  # columns of the manifest, for figures by their values
    config.every = config_lib.defaults()  # what changes here changes in all stages
    return config


def stage(name: str, variant: str) -> ConfigDict:
    """The settings of `configs/NAME.py:VARIANT` as a part of a study's."""
    config = copy.deepcopy(_of_file(name, variant)).unlock()
    config[FILE] = f'{name}:{variant}' if variant else name
    return config


def add_stages(config: ConfigDict, variant: str, **files: str) -> None:
    """Adds the stages of these names, and those that every study has.

    Args:
      files: name of a stage to its config.
    """
    common = {
        'supervised': 'imagenet_supervised',
        'simclr_natural': 'imagenet_simclr',
        ELSEWHERE: 'shift_evaluate',
        EMBED: 'embed',
    }
    for name, file in {**common, **files}.items():
        config[name] = stage(file, variant)
    config.natural_stages = ('supervised', 'simclr_natural')


def stages(config: ConfigDict) -> list[str]:
    """Names of the parts of a study's settings that are stages."""
    return [name for name, part in config.items() if isinstance(part, ConfigDict) and FILE in part]


def methods(config: ConfigDict) -> dict[str, tuple[str, ...]]:
    """The methods of this study with their stages of pre-training.

    Methods that need natural images are left out where there are none.

    Raises:
      InputError: an unknown method or stage.
    """
    known = {name: tuple(path) for name, path in config.methods}
    for name in (*config.only, *filter(None, [config.baseline])):
        if name not in known:
            hint = nearest(name, known)
            raise InputError(f'config: {name!r} is none of the methods{hint}')
    for name, path in known.items():
        for part in path:
            if part not in stages(config):
                raise InputError(f'config: methods.{name}: {part!r} is no stage')
    has_natural = bool(config.natural_manifest) or _is_synthetic(config)
    return {
        name: path
        for name, path in known.items()
        if name in (config.only or known)
        and (has_natural or not set(path) & set(config.natural_stages))
    }


def changes(config: ConfigDict, given: frozenset[str], part: str) -> dict[str, Any]:
    """What differs between the runs of a stage and the config file that they name.

    Args:
      config: of the study.
      given: keys that the study's command line sets.
      part: name of the stage.
    """
    own = config[part]
    name, _, variant = own[FILE].partition(':')
    every_given, own_given = _below(given, 'every'), _below(given, part)
    of_every = _changed(config.every, config_lib.defaults(), every_given)
    of_stage = _changed(own, _of_file(name, variant), own_given)
    table = _own_table(config, part)
    if own.task != config.every.task:
        of_every = {k: value for k, value in of_every.items() if not k.startswith('method.')}
    if table:
        of_every = {k: value for k, value in of_every.items() if not k.startswith(_OF_TABLE)}
    layers = (  # each wins over those before it
        {key: value for key, value in of_every.items() if key not in every_given},
        {key: value for key, value in of_stage.items() if key not in own_given},
        {key: value for key, value in of_every.items() if key in every_given},
        {'dataset.manifest': table} if table else {},
        {key: value for key, value in of_stage.items() if key in own_given},
    )
    found: dict[str, Any] = {}
    for layer in layers:
        families = {_family(key) for key in layer} - {''}
        found = {key: value for key, value in found.items() if _family(key) not in families} | layer
    return without_others(found, own)


def without_others(found: Mapping[str, Any], own: ConfigDict) -> dict[str, Any]:
    """Without keys of another method or backbone than those named there, or else in `own`."""
    method = found.get('method.name', own.method.name)
    backbone = models.network(found.get('model.name', own.model.name))['name']
    keys = {f'method.{key}' for key in methods_lib.load(method).KEYS}
    keys |= {f'model.{key}' for key in models.load(backbone).KEYS} | KEYS.keys()
    return {
        key: value
        for key, value in found.items()
        if not key.startswith(('method.', 'model.')) or key in keys
    }


def is_elsewhere(config: ConfigDict) -> bool:
    """Whether fine-tuned models are judged on another clinic's table."""
    if _own_table(config, ELSEWHERE):
        return True
    has_phantom = config[ELSEWHERE].dataset.name != 'manifest' and _is_synthetic(config)
    return has_phantom and bool(config.in_distribution)


def _own_table(config: ConfigDict, part: str) -> str | None:
    """The table that a stage reads in place of the study's own one."""
    if part == ELSEWHERE:
        return config.elsewhere_manifest or config[ELSEWHERE].dataset.manifest
    return config.natural_manifest if part in config.natural_stages else None


def _is_synthetic(config: ConfigDict) -> bool:
    return config.every.dataset.name == 'phantom' and not config.every.dataset.manifest


def _of_file(name: str, variant: str) -> ConfigDict:
    return runpy.run_path(str(CONFIGS / f'{name}.py'))['get_config'](variant)


def _changed(config: ConfigDict, origin: ConfigDict, given: set[str]) -> dict[str, Any]:
    """Keys whose value is not that of `origin`, or that were given; no unset units of durations."""
    theirs = config_lib.flat(origin)
    found = {
        key: value
        for key, value in config_lib.flat(config).items()
        if key != FILE
        and value is not None
        and (key in given or key not in theirs or value != theirs[key])
    }
    given_families = {_family(key) for key in given & found.keys()} - {''}
    return {
        key: value
        for key, value in found.items()
        if key in given or _family(key) not in given_families
    }


def _family(key: str) -> str:
    """The duration that a key is a unit of, '' for any other key."""
    name, _, unit = key.rpartition('_')
    return name if unit in UNITS and name in DURATIONS else ''


def _below(given: frozenset[str], part: str) -> set[str]:
    return {key.removeprefix(f'{part}.') for key in given if key.startswith(f'{part}.')}


def flags_of(settings: Mapping[str, Any]) -> list[str]:
    """`--config.KEY=VALUE` for each setting."""
    return [
        f'--config.{key}={value if isinstance(value, str) else repr(value)}'
        for key, value in settings.items()
    ]


def choose_variant(config: ConfigDict, variant: str) -> ConfigDict:
    """`''` leaves a study as it is, `'demo'` makes it run in minutes on two CPU cores.

    The demo reads the embedded SYNTHETIC phantom set wherever images are read (with
    `every.dataset.manifest`: your own).

    Raises:
      InputError: another variant.
    """
    if variant == 'demo':
        config.seeds = config.seeds[:2]
        config.every.dataset.name = 'phantom'
        config.every.image_size = DEMO_PIXELS
        for name in stages(config):
            part = config[name]
            if name == ELSEWHERE:
                part.dataset.name = 'phantom_elsewhere'
            if part.task in config_lib.TRAINING:
                part.total_steps = DEMO_STEPS
                part.monitor_every_percent = part.checkpoint_every_percent = 50.0
    elif variant:
        raise InputError(f'config: unknown variant {variant!r}; the only one is :demo')
    return config.lock()
