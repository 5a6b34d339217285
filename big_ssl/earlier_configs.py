"""What a config of an earlier version means now, so that a run begun by that version goes on.

Keys are dotted names, as of `config.keys`. Whoever adds, drops or renames a key of `big_ssl.config`
adds a line here.
"""

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from big_ssl import methods, models

# Each key that is younger than `config.json`, and the value that means what was done without it.
ADDED: dict[str, Any] = {
    'chunks': 1,
    'model.batch_norm': 'batch',
    'model.name': 'resnet',
    'init_normalization': 'none',
    'crop.min_object_covered': 0.0,
}
# Each key that no longer exists, and why.
RETIRED: dict[str, str] = {
    'bootstrap_replicates': 'intervals are computed in closed form; bootstrap_replicates is no '
    'longer read',
}
# Each former name of a key, and its name now; what another method has is dropped where stored.
RENAMED: dict[str, str] = {
    'model.backbone': 'model.name',
    'temperature': 'method.temperature',
    'mask_same_patient': 'method.mask_same_patient',
    'model.projection_layers': 'method.projection_layers',
    'model.projection_size': 'method.projection_size',
    'label_smoothing': 'method.label_smoothing',
}

# Every backbone had these until each had keys of its own.
OF_ONE_BACKBONE = {'model.stem', 'model.padding'}

_METHODS = {'supervised': 'classify'}  # before `method.name` existed, by task; else SimCLR
_NOTHING = object()


def up_to_date(config: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dictionary of an earlier run's config as this version would have stored it.

    Former names become those of now, keys that no longer exist are dropped, and those that did not
    exist yet have the value that means what was done then. `config` stays as it is, and one of this
    version comes back equal.
    """
    found = _by_names_of_now(config)
    for key, value in (ADDED | _own_keys(found)).items():
        _put(found, key, value)
    return found


def go_on(config: ConfigDict, begun_with: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Sets keys that are younger than a run to what was done when it began.

    So the command that began it goes on with it, though its config file may say otherwise by now.

    Args:
      config: the run's, of this version, changed in place.
      begun_with: its config as it was stored, as a nested dictionary.
      given: keys of the command line, which are left as they are.

    Returns:
      What was changed, as KEY=VALUE.
    """
    before, ours = _by_names_of_now(begun_with), config.to_dict()
    changed = {
        key: value
        for key, value in (ADDED | _own_keys(before)).items()
        if key not in given
        and _at(before, key) is _NOTHING
        and _at(ours, key) not in (value, _NOTHING)
    }
    config.update_from_flattened_dict(changed)
    return [f'{key}={value}' for key, value in changed.items()]


def name_now(key: str) -> str:
    """A key of a run, or STAGE.KEY of a study, by its name now."""
    if key in RENAMED.values():
        return key
    part, _, rest = key.partition('.')
    return RENAMED.get(key) or (f'{part}.{RENAMED[rest]}' if rest in RENAMED else key)


def network_now(depth: int, width: float) -> str:
    """The name of a ResNet that studies gave by a pair."""
    return f'resnet{depth}' + (f'x{width:g}' if width != 1 else '')


def former_run(name: str) -> str:
    """What a run of a study was called when its network was given by a pair."""
    return re.sub(
        r'/resnet(\d+)(?:x([\d.]+))?/', lambda m: f'/r{m[1]}-{float(m[2] or 1):g}x/', name
    )


def retired(key: str) -> tuple[str, str] | None:
    """STAGE, or '', and why it is no longer read, if a key or STAGE.KEY is retired."""
    part, _, rest = key.partition('.')
    if key in RETIRED:
        return '', RETIRED[key]
    return (part, RETIRED[rest]) if rest in RETIRED else None


def _by_names_of_now(config: Mapping[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(dict(config))
    found.setdefault('method', {'name': _METHODS.get(found.get('task', ''), 'simclr')})
    for old, new in RENAMED.items():
        if (value := _take(found, old)) is not _NOTHING:
            _put(found, new, value)
    _put(found, 'model.name', ADDED['model.name'])
    own = _own_keys(found)
    for key in (*RENAMED.values(), *OF_ONE_BACKBONE):
        if key.startswith(('method.', 'model.')) and not key.endswith('.name') and key not in own:
            _take(found, key)
    for key in RETIRED:
        _take(found, key)
    return found


def _own_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the config's method and backbone; their defaults mean what was done before."""
    own = {
        'method': methods.load(config['method']['name']).KEYS,
        'model': models.load(config['model']['name']).KEYS,
    }
    return {f'{part}.{key}': about.default for part in own for key, about in own[part].items()}


def _at(config: Any, key: str) -> Any:
    for part in key.split('.'):
        config = config.get(part, _NOTHING) if isinstance(config, dict) else _NOTHING
    return config


def _take(config: dict[str, Any], key: str) -> Any:
    """Removes a key and returns its value."""
    section, _, last = key.rpartition('.')
    holder = _at(config, section) if section else config
    return holder.pop(last, _NOTHING) if isinstance(holder, dict) else _NOTHING


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Adds a key unless it is there."""
    *sections, last = key.split('.')
    for name in sections:
        config = config.setdefault(name, {})
        if not isinstance(config, dict):  # no config of ours; the comparison will say so
            return
    config.setdefault(last, value)
