"""From the axes of a study to its runs, each after those it begins with."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data.manifest import ALL
from big_ssl.errors import InputError
from big_ssl.studies import settings
from big_ssl.studies.run import Run
from big_ssl.studies.settings import ELSEWHERE, EMBED, FILE, FINETUNE

PRETRAINING, FINETUNING, ELSEWHERE_ROLE, EMBEDDING = (
    'pre-training',
    'fine-tuning',
    'elsewhere',
    'embedding',
)
FIGURES = ('auc_macro', 'top1', 'balanced_accuracy')  # that a study compares


class Network(NamedTuple):
    """A network of `config.networks`; `label` is '' where there is one only."""

    label: str
    settings: dict[str, Any]


def runs_of(config: ConfigDict, given: frozenset[str]) -> list[Run]:
    """All runs of a study, in an order in which they can be run.

    Args:
      config: of the study.
      given: keys that its command line sets.

    Raises:
      InputError: the settings contradict one another, or a method is not known.
    """
    _check(config)
    found: dict[str, Run] = {}
    for network in _networks(config):
        for seed in config.seeds:
            for method, path in settings.methods(config).items():
                start = None
                for run in _pretraining(config, given, network, seed, path):
                    found.setdefault(run.name, run)
                    start = run.name
                for run in _judged(config, given, network, seed, method, start):
                    found[run.name] = run
    return list(found.values())


def _pretraining(
    config: ConfigDict, given: frozenset[str], network: Network, seed: int, path: tuple[str, ...]
) -> Iterator[Run]:
    before = None
    for length, stage in enumerate(path, start=1):
        name = '/'.join(
            filter(None, ['pretrain', '-'.join(path[:length]), network.label, f'seed{seed}'])
        )
        yield Run(
            name=name,
            file=config[stage][FILE],
            settings=settings.changes(config, given, stage) | network.settings | {'seed': seed},
            begins_with=before,
            facts={
                'role': PRETRAINING,
                'path': '-'.join(path[:length]),
                'network': network.label,
                'seed': seed,
            },
        )
        before = name


def _judged(
    config: ConfigDict,
    given: frozenset[str],
    network: Network,
    seed: int,
    method: str,
    start: str | None,
) -> Iterator[Run]:
    """Fine-tunings of one pre-training along the remaining axes, and what is done with each."""
    base = settings.changes(config, given, FINETUNE) | network.settings
    groups = {'subgroups': tuple(config.subgroups)} if config.subgroups else {}
    clinic = {'dataset.manifest': config.elsewhere_manifest} if config.elsewhere_manifest else {}
    there = settings.changes(config, given, ELSEWHERE) | clinic | groups
    for again, fraction, draw, rate, decay in itertools.product(
        range(config.finetunings),
        config.label_fractions,
        config.label_draws,
        config.learning_rates or (None,),
        config.weight_decays or (None,),
    ):
        if fraction >= 1 and draw != config.label_draws[0]:
            continue  # all labels are all labels
        labels = f'labels{fraction:g}-draw{draw}' if fraction < 1 else ''
        search = f'lr{rate:.3g}-wd{decay:.3g}' if rate is not None else ''
        place = [method, network.label, labels, search, f'seed{seed}']
        place = [part for part in place if part]
        place[-1] += f'-{again}' if config.finetunings > 1 else ''
        facts = {
            'method': method,
            'network': network.label,
            'fraction': fraction,
            'draw': draw,
            'learning_rate': rate,
            'weight_decay': decay,
            'seed': seed,
            'finetuning': again,
        }
        chosen: dict[str, Any] = {'seed': seed + 1000 * again}
        if fraction < 1:
            chosen |= {'label_fraction': fraction, 'label_seed': draw}
        if rate is not None:
            chosen |= {'optimizer.learning_rate': rate, 'optimizer.weight_decay': decay}
        finetuned = '/'.join(['finetune', *place])
        here = base | chosen | groups
        yield Run(finetuned, config[FINETUNE][FILE], here, start, facts | {'role': FINETUNING})
        if is_elsewhere(config):
            yield Run(
                '/'.join(['elsewhere', *place]),
                config[ELSEWHERE][FILE],
                there,
                finetuned,
                facts | {'role': ELSEWHERE_ROLE},
            )
    if config.embed_split and seed == config.seeds[0]:
        yield _embedding(config, given, network, seed, method, start)


def _embedding(
    config: ConfigDict,
    given: frozenset[str],
    network: Network,
    seed: int,
    method: str,
    start: str | None,
) -> Run:
    """The encoder before fine-tuning, on the images of one split."""
    base = settings.changes(config, given, EMBED)
    if start is None:
        base |= {
            key: value
            for key, value in settings.changes(config, given, FINETUNE).items()
            if key.startswith(('model.', 'dataset.')) or key == 'image_size'
        } | network.settings
    return Run(
        '/'.join(filter(None, ['embed', method, network.label, f'seed{seed}'])),
        config[EMBED][FILE],
        base | {'splits.evaluate': config.embed_split, 'seed': seed},
        start,
        {'role': EMBEDDING, 'method': method, 'network': network.label, 'seed': seed},
    )


def is_elsewhere(config: ConfigDict) -> bool:
    """Whether fine-tuned models are judged on another clinic's table."""
    return bool(config.elsewhere_manifest) or config[ELSEWHERE].dataset.name != 'manifest'


def _networks(config: ConfigDict) -> list[Network]:
    if not config.networks:
        return [Network('', {})]
    return [
        Network(
            f'r{depth}-{width:g}x' if len(config.networks) > 1 else '',
            {'model.depth': depth, 'model.width': float(width)},
        )
        for depth, width in config.networks
    ]


def _check(config: ConfigDict) -> None:
    if config.embedding_map not in ('pca', 'umap'):
        raise InputError(f'config: embedding_map={config.embedding_map} is not one of pca, umap')
    for name in config.compared:
        if name not in FIGURES:
            hint = config_lib.nearest(name, FIGURES)
            raise InputError(f'config: compared: {name!r} is not one of {", ".join(FIGURES)}{hint}')
    if bool(config.learning_rates) != bool(config.weight_decays):
        raise InputError('config: learning_rates and weight_decays are searched together: set both')
    for key in ('seeds', 'label_draws', 'label_fractions'):
        fraction = key == 'label_fractions'
        if not all(isinstance(v, int | float if fraction else int) for v in config[key]):
            raise InputError(f'config: {key}={config[key]} must be numbers')
        if not config[key] or len(set(config[key])) != len(config[key]):
            raise InputError(f'config: {key}={config[key]} must name each value once, at least one')
    if config.finetunings < 1:
        raise InputError(f'config: finetunings={config.finetunings} must be 1 or more')
    for fraction in config.label_fractions:
        if not 0 < fraction <= 1:
            raise InputError(f'config: label_fractions: {fraction} is outside (0, 1]')
    if len(config.label_fractions) > 1 and config[FINETUNE].total_steps is None:
        raise InputError(
            'config: with several label_fractions the length of fine-tuning must be the same for '
            'all: give --config.finetune.total_steps'
        )
    names = {name for name, _ in config.methods}
    if config.baseline and config.baseline not in settings.methods(config):
        raise InputError(
            f'config: the baseline {config.baseline!r} is not among the methods of this study '
            f'({", ".join(settings.methods(config))}); give --config.natural_manifest=FILE.csv if '
            'it needs natural images, or another --config.baseline'
        )
    for pair in config.comparisons:
        if len(pair) != 2 or not set(pair) <= names:
            raise InputError(f'config: comparisons: {pair} is not a pair of methods')
    if config.shift == ALL or config.in_distribution == ALL:
        raise InputError(f'config: {ALL!r} is no split to be compared')
