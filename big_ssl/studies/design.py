"""From the axes of a study to its runs, each after those it begins with."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl import earlier_configs, models
from big_ssl.studies import checks, settings
from big_ssl.studies.run import Run
from big_ssl.studies.settings import ELSEWHERE, EMBED, FILE, FINETUNE

PRETRAINING, FINETUNING, ELSEWHERE_ROLE, EMBEDDING = (
    'pre-training',
    'fine-tuning',
    'elsewhere',
    'embedding',
)


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
    checks.check(config, given)
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
            settings=_changes(config, given, stage, network) | {'seed': seed},
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
    groups = {'subgroups': tuple(config.subgroups)} if config.subgroups else {}
    base = groups | _changes(config, given, FINETUNE, network)
    base |= _evaluated(config, base)
    there = groups | settings.changes(config, given, ELSEWHERE)
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
        chosen: dict[str, Any] = {'seed': seed + checks.DRAWS * again}
        if fraction < 1:  # each seed has draws of its own, so that seeds carry their variation
            label_seed = checks.DRAWS * seed + draw
            chosen |= {'label_fraction': fraction, 'label_seed': label_seed}
        if rate is not None:
            chosen |= {'optimizer.learning_rate': rate, 'optimizer.weight_decay': decay}
        finetuned = '/'.join(['finetune', *place])
        here = base | chosen
        yield Run(finetuned, config[FINETUNE][FILE], here, start, facts | {'role': FINETUNING})
        if settings.is_elsewhere(config):
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
            for key, value in _changes(config, given, FINETUNE, network).items()
            if key.startswith(('model.', 'dataset.')) or key == 'image_size'
        }
    return Run(
        '/'.join(filter(None, ['embed', method, network.label, f'seed{seed}'])),
        config[EMBED][FILE],
        base | {'splits.evaluate': config.embed_split, 'seed': seed},
        start,
        {'role': EMBEDDING, 'method': method, 'network': network.label, 'seed': seed},
    )


def _changes(
    config: ConfigDict, given: frozenset[str], stage: str, network: Network
) -> dict[str, Any]:
    """As `settings.changes`, for a network, whatever network the stage has."""
    found = settings.changes(config, given, stage) | network.settings
    return settings.without_others(found, config[stage])


def _evaluated(config: ConfigDict, changes: dict[str, Any]) -> dict[str, str]:
    """The splits that fine-tuned models are judged on, those that the study looks at included."""
    own = config[FINETUNE].splits
    listed = config_lib.names(changes.get('splits.evaluate', own.evaluate))
    known = (*listed, changes.get('splits.val', own.val))
    missing = [name for name in (config.in_distribution, config.shift) if name not in ('', *known)]
    return {'splits.evaluate': '+'.join([*listed, *missing])} if missing else {}


def _networks(config: ConfigDict) -> list[Network]:
    found = [_network(asked) for asked in config.networks] or [Network('', {})]
    return found if len(found) > 1 else [Network('', found[0].settings)]


def _network(asked: str | Mapping[str, Any] | tuple[int, float]) -> Network:
    """Of a name, of keys of `model`, or of what earlier studies gave."""
    if isinstance(asked, tuple):
        asked = earlier_configs.network_now(*asked)
    if isinstance(asked, str):
        return Network(
            asked, {f'model.{key}': value for key, value in models.network(asked).items()}
        )
    parts = [f'{key}{value}' for key, value in asked.items() if key != 'name']
    label = '-'.join([*filter(None, [asked.get('name', '')]), *parts])
    in_order = sorted(asked.items(), key=lambda item: item[0] != 'name')  # it brings the others
    return Network(label, {f'model.{key}': value for key, value in in_order})
