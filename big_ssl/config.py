"""The settings every run has, and the rules that hold between them.

A file in `configs/` starts from `defaults()` and changes what its experiment needs. The dictionary
is locked: a key that is not in `run_keys`, or of its method, does not exist.
"""

import functools
import logging
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, config_dict

from big_ssl import earlier_configs, methods
from big_ssl.errors import InputError
from big_ssl.keys import Key
from big_ssl.run_keys import DURATIONS, FINETUNING, KEYS, PRETRAINING, UNITS

log = logging.getLogger(__name__)

TRAINING = {PRETRAINING: 'simclr', FINETUNING: 'classify'}  # and the method that is usual for it
# Weights fit only what has the same; a run that trains nothing takes it over from their training.
OF_ENCODER = ('model.backbone', 'model.depth', 'model.width', 'model.stem', 'model.padding',
              'init_normalization')  # fmt: skip
OF_IMAGES = ('image_size', 'crop.evaluation', 'dataset.channels')
OF_CLASSIFIER = ('labels.kind', 'labels.negative', 'aggregate')
# Keys that are 'auto' until it is known what the weights of init_from need; the first is that of
# a network from scratch.
AUTO = {key: KEYS[key].choices[1:] for key in ('model.padding', 'init_normalization')}
FROM_SCRATCH = {key: choices[0] for key, choices in AUTO.items()}


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


class MethodSettings(ConfigDict):
    """`name`, and the keys that the module of that method has: another name brings others."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key != 'name' or value == self.get('name'):
            super().__setitem__(key, value)
            return
        own = {name: about.default for name, about in methods.load(value).KEYS.items()}
        with self.unlocked():
            for name in list(self):
                del self[name]
            for name, default in {'name': value, **own}.items():
                super().__setitem__(name, default)


class ModelSettings(ConfigDict):
    """Keys of the network. Those that moved to the method are set there (in a config file)."""

    def __init__(self, run: Settings | None = None) -> None:
        super().__init__()
        object.__setattr__(self, '_run', run)

    def __setitem__(self, key: str, value: Any) -> None:
        if (name := f'model.{key}') in earlier_configs.RENAMED and self._run is not None:
            self._run[name] = value
        else:
            super().__setitem__(key, value)


@functools.cache  # a study reads a file for each of its runs
def _say(line: str) -> None:
    log.warning('config: %s', line)


def method_of(config: Mapping[str, Any]) -> ModuleType:
    """The module of the config's method; raises InputError where there is none."""
    return methods.load(config['method']['name'])


def keys_of(config: Mapping[str, Any]) -> dict[str, Key]:
    """What each key means and may be, those of the config's method included."""
    own = method_of(config).KEYS
    return KEYS | {f'method.{key}': about for key, about in own.items()}


def defaults() -> ConfigDict:
    """Every key of `run_keys`, and those of the usual method, with its default."""
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


def settled(config: ConfigDict, key: str) -> Any:
    """The value of a key of AUTO; where it is still open, that of a network from scratch."""
    return FROM_SCRATCH[key] if (value := get(config, key)) == 'auto' else value


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
    _check_backbone(config)
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


def _check_backbone(config: ConfigDict) -> None:
    """What a BiT cannot be."""
    if config.model.backbone != 'bit':
        return
    wrong = [
        f'{key}={get(config, key)}'
        for key, right in (
            ('model.depth', get(config, 'model.depth') in (50, 101, 152)),
            ('model.width', get(config, 'model.width') % 0.5 == 0),  # 32 groups of channels
            ('model.stem', config.model.stem == 'standard'),
            ('model.padding', config.model.padding in ('auto', 'torch')),
        )
        if not right
    ]
    if wrong:
        raise InputError(
            f'config: model.backbone=bit cannot have {", ".join(wrong)}; it has depth 50, 101 or '
            '152, a width of 0.5, 1, 1.5 …, stem=standard and padding=torch'
        )


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
