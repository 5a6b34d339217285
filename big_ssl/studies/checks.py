"""What the settings of a study must be, said in one line before anything runs."""

import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data.manifest import ALL
from big_ssl.errors import InputError
from big_ssl.keys import nearest
from big_ssl.studies import settings
from big_ssl.studies.settings import FINETUNE

FIGURES = ('auc_macro', 'top1', 'balanced_accuracy')  # that a study compares
DRAWS = 1000  # label draws, and fine-tunings, of a seed at most


def check(config: ConfigDict, given: frozenset[str]) -> None:
    """Checks all settings that no table is needed for.

    Args:
      config: of the study.
      given: keys that its command line sets.

    Raises:
      InputError: a value is wrong, or two contradict each other.
    """
    _check_shapes(config)
    _check_figures(config)
    _check_methods(config)
    _check_axes(config, given)
    tuned = settings.changes(config, given, FINETUNE)
    _check_labels(config, tuned)
    _check_splits(config, tuned)


def _check_shapes(config: ConfigDict) -> None:
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        'methods': (lambda v: _pair(v, _is_name, _are_names), "('NAME', ('STAGE', …)) pairs"),
        'comparisons': (lambda v: _pair(v, _is_name, _is_name), "('METHOD', 'METHOD') pairs"),
        'networks': (_is_network, "resnet152x2, vit_s16 … or {'name': 'vit', 'depth': 6}"),
        'seeds': (_is_count, 'whole numbers from 0'),
        'label_draws': (lambda v: _is_count(v) and v < DRAWS, f'whole numbers below {DRAWS}'),
        'label_fractions': (lambda v: _is_number(v) and 0 < v <= 1, 'above 0, 1 at most'),
        'learning_rates': (lambda v: _is_number(v) and v >= 0, 'numbers from 0'),
        'weight_decays': (lambda v: _is_number(v) and v >= 0, 'numbers from 0'),
        **dict.fromkeys(
            ('only', 'compared', 'subgroups', 'natural_stages'), (_is_name, 'names in quotes')
        ),
    }
    for key, (is_right, expected) in rules.items():
        for value in config[key]:
            if not is_right(value):
                raise InputError(f'config: {key}: {value!r} is none of {expected}')
        if any(value in config[key][:place] for place, value in enumerate(config[key])):
            raise InputError(f'config: {key}={config[key]} must name each value once')
    for key in ('seeds', 'label_draws', 'label_fractions'):
        if not config[key]:
            raise InputError(f'config: {key} must name at least one value')
    if not (math.isfinite(config.margin) and config.margin >= 0):
        raise InputError(f'config: margin={config.margin} must be 0 or more')


def _check_figures(config: ConfigDict) -> None:
    if config.embedding_map not in ('pca', 'umap'):
        raise InputError(f'config: embedding_map={config.embedding_map} is not one of pca, umap')
    if config.embedding_map == 'umap' and importlib.util.find_spec('umap') is None:
        raise InputError('config: embedding_map=umap needs the package umap-learn: install it')
    for name in config.compared:
        if name not in FIGURES:
            hint = nearest(name, FIGURES)
            raise InputError(f'config: compared: {name!r} is not one of {", ".join(FIGURES)}{hint}')


def _check_methods(config: ConfigDict) -> None:
    known = settings.methods(config)
    if config.baseline and config.baseline not in known:
        raise InputError(
            f'config: the baseline {config.baseline!r} is not among the methods of this study '
            f'({", ".join(known)}); give --config.natural_manifest=FILE.csv if it needs natural '
            'images, or another --config.baseline'
        )
    names = {name for name, _ in config.methods}
    for pair in config.comparisons:
        if not set(pair) <= names or pair[0] == pair[1]:
            raise InputError(f'config: comparisons: {pair} is not a pair of methods')
    for name in config.natural_stages:
        if name not in settings.stages(config):
            raise InputError(f'config: natural_stages: {name!r} is no stage')


def _check_axes(config: ConfigDict, given: frozenset[str]) -> None:
    """An axis is set by its own key, not in a stage."""
    if config.finetunings < 1:
        raise InputError(f'config: finetunings={config.finetunings} must be 1 or more')
    if config.finetunings > 1 and max(config.seeds) - min(config.seeds) >= DRAWS:
        raise InputError(f'config: with several finetunings seeds must lie within {DRAWS}')
    axes = {f'{part}.seed': 'seeds' for part in ('every', *settings.stages(config))}
    for part in ('every', FINETUNE):
        axes |= {f'{part}.label_fraction': 'label_fractions', f'{part}.label_seed': 'label_draws'}
    for key in sorted(given & axes.keys()):
        raise InputError(f'config: {key} is an axis of the study: give --config.{axes[key]}')
    if bool(config.learning_rates) != bool(config.weight_decays):
        raise InputError('config: learning_rates and weight_decays are searched together: set both')
    for key in ('learning_rates', 'weight_decays'):
        if len({f'{value:.3g}' for value in config[key]}) != len(config[key]):
            raise InputError(f'config: {key}={config[key]} must differ within three digits')


def _check_labels(config: ConfigDict, tuned: Mapping[str, Any]) -> None:
    """`tuned`: what fine-tuning changes in its config file."""
    if len(config.label_fractions) == 1:
        return
    total = [key for key in tuned if key.startswith('total_')]
    if total != ['total_steps'] and (total or config[FINETUNE].total_steps is None):
        raise InputError(
            'config: with several label_fractions the length of fine-tuning must be the same for '
            'all: give --config.finetune.total_steps'
        )
    if 1 not in config.label_fractions:
        raise InputError(
            f'config: label_fractions={config.label_fractions} must hold 1.0, what the others are '
            'compared with'
        )
    if not config.compared:
        raise InputError('config: compared is empty: several label_fractions need a figure')


def _check_splits(config: ConfigDict, tuned: Mapping[str, Any]) -> None:
    wanted = [name for name in (config.in_distribution, config.shift) if name]
    own = config[FINETUNE]
    if ALL in wanted:
        raise InputError(f'config: {ALL!r} is no split to be compared')
    if wanted and ALL in config_lib.names(tuned.get('splits.evaluate', own.splits.evaluate)):
        raise InputError('config: finetune.splits.evaluate=all: name the splits to be compared')
    val = tuned.get('splits.val', own.splits.val)
    is_reduced = min(config.label_fractions) < 1
    if is_reduced and val in wanted and tuned.get('labels.val', own.labels.val) == 'alike':
        raise InputError(
            f'config: {val} is reduced like the labels, so its cases differ between runs; to '
            'compare on it give --config.finetune.labels.val=full'
        )


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_name, value))


def _is_network(value: Any) -> bool:
    """Its name, keys of `model`, or a (DEPTH, WIDTH) pair of a ResNet, as was the only way once."""
    of_resnet = isinstance(value, tuple) and _pair(value, _is_number, _is_number)
    return _is_name(value) or isinstance(value, Mapping) or of_resnet


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _pair(value: Any, first: Callable[[Any], bool], second: Callable[[Any], bool]) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and first(value[0]) and second(value[1])
