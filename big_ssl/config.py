"""The settings every run has, and the rules that hold between them.

A file in `configs/` starts from `defaults()` and changes what its experiment needs. The dictionary
is locked: a key that is not in `run_keys`, or of its method or backbone, does not exist.
"""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, config_dict

from big_ssl import earlier_configs, methods, models
from big_ssl.errors import InputError
from big_ssl.keys import Key
from big_ssl.run_keys import DURATIONS, FINETUNING, KEYS, PRETRAINING, UNITS

log = logging.getLogger(__name__)

TRAINING = {PRETRAINING: 'simclr', FINETUNING: 'classify'}  # and the method that is usual for it
# A run that trains nothing takes these over from the training of its weights, as `of_encoder`.
OF_IMAGES = ('image_size', 'crop.evaluation', 'dataset.channels')
OF_CLASSIFIER = ('labels.kind', 'labels.negative', 'aggregate')


class Settings(ConfigDict):
    """The settings of a run.

    `task` brings the method that is usual for it, unless the one at hand is of that kind. A config
    file of an earlier version may set keys that no longer exist or have another name: a line says
    so.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key in earlier_configs.RETIRED:
            _say(earlier_configs.RETIRED[key])
        elif key in earlier_configs.RENAMED:
            name = earlier_configs.RENAMED[key]
            _say(f'{key} is called {name} now')
            self.update_from_flattened_dict({name: value})
        else:
            super().__setitem__(key, value)
            if key == 'task' and 'method' in self and value in TRAINING:
                self._bring_method(value)

    def _bring_method(self, task: str) -> None:
        if task != method_of(self).TASK:
            self.method.name = TRAINING[task]


class _Section(ConfigDict):
    """`name`, and the keys that the module of that name has: another name brings others."""

    _brought: Callable[[str], dict[str, Any]]  # a name, `name` and those keys with their defaults

    def __setitem__(self, key: str, value: Any) -> None:
        if key != 'name' or value == self.get('name'):
            super().__setitem__(key, value)
            return
        before = self._brought(self['name']) if 'name' in self else {}
        with self.unlocked():
            for name in before:
                del self[name]
            for name, default in self._brought(value).items():
                super().__setitem__(name, default)


class MethodSettings(_Section):
    """Of the method."""

    def _brought(self, name: str) -> dict[str, Any]:
        own = methods.load(name).KEYS
        return {'name': name, **{key: about.default for key, about in own.items()}}


class ModelSettings(_Section):
    """Of the backbone. Keys of a config file that moved elsewhere are set there."""

    def __init__(self, run: Settings | None = None) -> None:
        super().__init__()
        object.__setattr__(self, '_run', run)

    def __setitem__(self, key: str, value: Any) -> None:
        if (name := f'model.{key}') in earlier_configs.RENAMED and self._run is not None:
            self._run[name] = value
        else:
            super().__setitem__(key, value)

    def _brought(self, name: str) -> dict[str, Any]:
        chosen = models.network(name)
        own = models.load(chosen['name']).KEYS
        return {'name': name, **{key: about.default for key, about in own.items()}, **chosen}


@functools.cache  # a study reads a file for each of its runs
def _say(line: str) -> None:
    log.warning('config: %s', line)


def method_of(config: Mapping[str, Any]) -> ModuleType:
    """The module of the config's method; raises InputError where there is none."""
    return methods.load(config['method']['name'])


def backbone_of(config: Mapping[str, Any]) -> models.Backbone:
    """The config's; raises InputError where there is none."""
    return models.load(config['model']['name'])


def keys_of(config: Mapping[str, Any]) -> dict[str, Key]:
    """What each key means and may be, those of the config's method and backbone included."""
    own = {'method': method_of(config).KEYS, 'model': backbone_of(config).KEYS}
    return KEYS | {
        f'{section}.{key}': about for section in own for key, about in own[section].items()
    }


def brought(given: Mapping[str, Any]) -> set[str]:
    """Keys that the names of networks among the given values bring: `model.name=resnet152x2`."""
    networks = {name: text for name, text in given.items() if name.endswith('model.name')}
    return {
        f'{name.removesuffix("name")}{key}'
        for name, text in networks.items()
        for key in models.network(text)
    }


def of_encoder(name: str) -> tuple[str, ...]:
    """Keys that make another encoder of a backbone, which other weights fit."""
    own = (f'model.{key}' for key in models.load(name).KEYS)
    return ('model.name', *own, 'init_normalization')


def open_keys(name: str) -> dict[str, tuple[Any, ...]]:
    """Keys that are 'auto' until it is known what the weights of `init_from` need.

    With the values they may have then, of which the first is that of a network from scratch.
    """
    own = models.load(name).open_keys
    shared = {'init_normalization': KEYS['init_normalization'].choices[1:]}
    return {f'model.{key}': choices for key, choices in own.items()} | shared


def defaults() -> ConfigDict:
    """Every key of `run_keys`, and those of the usual method and backbone, with its default."""
    config = Settings()
    sections = {'method': MethodSettings(), 'model': ModelSettings(config)}
    for key, about in KEYS.items():
        section, _, name = key.rpartition('.')
        holder: ConfigDict = config
        for part in filter(None, section.split('.')):
            if part not in holder:
                holder[part] = sections.get(part, ConfigDict())
            holder = holder[part]
        if about.kind:
            holder[name] = config_dict.placeholder(about.kind)
        if not about.kind or about.default is not None:
            holder[name] = about.default
    return config.lock()


def of_weights(settings: Mapping[str, Any], further: Iterable[str] = ()) -> ConfigDict:
    """The defaults, with the encoder that weights belong to, and `further` keys of theirs.

    Args:
      settings: by dotted keys, of those weights.
    """
    config = defaults()
    take(config, settings, (*of_encoder(settings['model.name']), *further))
    close(config)
    return config


def keys(config: Mapping[str, Any], prefix: str = '') -> list[str]:
    """Dotted names of all leaves."""
    found: list[str] = []
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        found += keys(value, f'{prefix}{key}.') if nested else [prefix + key]
    return found


def get(config: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted name, as from `keys`."""
    for key in dotted.split('.'):
        config = config[key]
    return config


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every leaf by its dotted name, of a config or of the plain dictionary that it becomes."""
    return {key: get(config, key) for key in keys(config)}


def close(config: ConfigDict, known: Mapping[str, Any] | None = None) -> list[str]:
    """Gives keys that are still 'auto' the value that is known, or that of a network from scratch.

    Returns:
      Those keys.
    """
    choices = open_keys(config.model.name)
    still = [key for key in choices if get(config, key) == 'auto']
    values = {key: choices[key][0] for key in still} | dict(known or {})
    config.update_from_flattened_dict({key: values[key] for key in still})
    return still


def closed(config: ConfigDict) -> ConfigDict:
    """A copy whose encoder, where something is open, is one from scratch."""
    copied = ConfigDict(config.to_dict())
    close(copied)
    return copied


def take(config: ConfigDict, settings: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Sets those of the keys that are known and differ; returns them with their new values.

    A key that the config does not have is passed over: its section's `name` was given.
    """
    taken = {}
    for key in keys:
        if key in settings and key in flat(config) and get(config, key) != settings[key]:
            config.update_from_flattened_dict({key: settings[key]})
            taken[key] = settings[key]
    return taken


def settle(config: ConfigDict, overridden: Iterable[str] = ()) -> ConfigDict:
    """The config with its rules applied; `overridden` are the keys given on the command line.

    Raises:
      InputError: two units for one duration, or a value outside its choices.
    """
    overridden = set(overridden)
    for name in DURATIONS:
        _one_unit(config, name, overridden)
    if config.dataset.manifest:
        config.dataset.name = 'manifest'
    _check_values(config)
    check_backbone(config)
    _check_crops(config)
    _check_judged(config)
    if config.task in TRAINING:
        _check_method(config)
    return config


def _check_method(config: ConfigDict) -> None:
    """By what its module says."""
    method, name = method_of(config), config.method.name
    if config.task != method.TASK:
        raise InputError(
            f'config: method.name={name} is for task={method.TASK}, not for task={config.task}'
        )
    for key, about in method.KEYS.items():
        about.check(f'method.{key}', config.method[key])
    getattr(method, 'check', lambda config: None)(config)


def _one_unit(config: ConfigDict, name: str, overridden: set[str]) -> None:
    siblings = [f'{name}_{unit}' for unit in UNITS]
    given = [key for key in siblings if key in overridden and config[key] is not None]
    if given:
        for key in set(siblings) - set(given):
            config[key] = None
    present = [key for key in siblings if config[key] is not None]
    if len(present) != 1:
        found = ' and '.join(present) if present else 'none'
        raise InputError(f'config: exactly one of {", ".join(siblings)} must be set, found {found}')
    if config[present[0]] < 0 or (name != 'warmup' and config[present[0]] == 0):
        raise InputError(f'config: {present[0]} must be positive, found {config[present[0]]}')
    if present == ['total_percent']:
        raise InputError('config: total_percent means nothing, use total_steps or total_epochs')


def _check_judged(config: ConfigDict) -> None:
    """What is judged, and in which groups."""
    if not names(config.splits.evaluate):
        raise InputError('config: splits.evaluate is empty; name a split, or all')
    if not all(isinstance(column, str) and column for column in config.subgroups):
        raise InputError(f'config: subgroups={config.subgroups} must be names of columns')
    edges = config.subgroup_edges
    if not all(type(edge) is int for edge in edges) or list(edges) != sorted(set(edges)):
        raise InputError(f'config: subgroup_edges={edges} must be ascending whole numbers')


def _check_values(config: ConfigDict) -> None:
    """Each key for itself."""
    name = config.dataset.name
    is_folder = config.dataset.data_dir or '/' in name  # of records, by whatever name
    for key, about in KEYS.items():
        named = key == 'dataset.name' and (is_folder or name.startswith('tfds:'))
        if (value := get(config, key)) is not None and not named:
            about.check(key, value)


def check_backbone(config: ConfigDict) -> None:
    """By what its module says."""
    backbone = backbone_of(config)
    for key, about in backbone.KEYS.items():
        about.check(f'model.{key}', config.model[key])
    backbone.check(config)


def _check_crops(config: ConfigDict) -> None:
    for key in ('crop.area', 'crop.aspect'):
        pair = get(config, key)
        numbers = len(pair) == 2 and all(isinstance(side, int | float) for side in pair)
        if not numbers or not 0 < pair[0] <= pair[1] or (key == 'crop.area' and pair[1] > 1):
            raise InputError(f'config: {key}={pair} is not a valid range (LOW, HIGH)')
    if config.crop.min_object_covered > config.crop.area[1]:
        raise InputError(
            f'config: crop.min_object_covered={config.crop.min_object_covered} is above the '
            f'largest area of a crop, crop.area={config.crop.area}'
        )


def steps(config: ConfigDict, name: str, *, epoch: int, total: int | None = None) -> int:
    """The duration `name` in steps, at least 1 (a warm-up may be 0).

    Args:
      config: a settled config.
      name: one of `DURATIONS`.
      epoch: examples in an epoch.
      total: steps of the whole run, for `_percent`.
    """
    value, unit = next(
        (config[f'{name}_{unit}'], unit) for unit in UNITS if config[f'{name}_{unit}'] is not None
    )
    if unit == 'percent':
        if total is None:
            raise ValueError(f'{name}_percent needs the total number of steps')
        count = value / 100 * total
    else:
        per_step = {
            'steps': 1,
            'epochs': epoch / config.batch_size,
            'examples': 1 / config.batch_size,
        }[unit]
        count = value * per_step
    return max(round(count), 0 if name == 'warmup' else 1)


def names(joined: str) -> tuple[str, ...]:
    """`'train+val'` → `('train', 'val')`, each once."""
    return tuple(dict.fromkeys(part.strip() for part in joined.split('+') if part.strip()))


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = '') -> list[str]:
    """`key=ours (theirs there)` for each key in which two nested plain dictionaries differ."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f'{prefix}{key}.')
        elif a != b:
            found.append(f'{prefix}{key}={a} ({b} there)')
    return found
