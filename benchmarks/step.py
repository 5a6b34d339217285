"""A training step of SimCLR on a CPU, in float32: ours, and lightly's on torchvision's networks.

  python -m benchmarks.step WAY DEPTH SIZE BATCH      # one way, for `side_by_side.Child`

Each way is a process that takes steps when its turn comes.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.results import Found, Summary, Target
from benchmarks.side_by_side import Child, Cost, Way, alternately, here, ratio, serve
from benchmarks.timing import summary
from big_ssl import heap

_OURS = ('ours', 'ours_without_augmentation')
_LIGHTLY = ('lightly', 'lightly_channels_last')
_TEMPERATURE, _RATE, _MOMENTUM, _DECAY = 0.1, 0.1, 0.9, 1e-6
_STEPS = 2  # a turn, after one that takes over the memory that others gave back


class Training(NamedTuple):
    """Of a ResNet on square views, two of each example."""

    depth: int
    size: int
    batch: int

    def __str__(self) -> str:
        return f'r{self.depth}_{self.size}'


def measured(quick: bool) -> Found:
    """Costs of a step, by turns."""
    batch = 2 if quick else 32
    trainings = [Training(18, 64, batch)]
    if not quick:
        trainings = [
            Training(depth, size, batch) for depth, size in ((18, 128), (50, 64), (50, 128))
        ]
    figures: dict[str, Summary] = {}
    ratios: dict[str, Summary] = {}
    for training in trainings:
        with contextlib.ExitStack() as stack:
            ways = {way: stack.enter_context(Child(__name__, way, *training))
                    for way in (*_OURS, *_LIGHTLY)}  # fmt: skip
            costs = alternately(ways, 1 if quick else 5)
        for way, each in costs.items():
            figures |= _figures(f'{training}/{way}', each, batch)
        for peer in _LIGHTLY:
            for way in _OURS:
                for clock in ('wall', 'cpu'):
                    name = f'{training}/{peer}_over_{way}/{clock}'
                    ratios[name] = ratio(costs[peer], costs[way], clock)
    return Found(
        f'LARS, float32, {batch} images of two views a step, all cores, time a step',
        figures | ratios,
        [Target(name, '>=', 1.0) for name in ratios if '/lightly_over_ours/' in name],
        (
            'ours begins with uint8 views and augments them; without augmentation it only makes '
            "floats of them; lightly's views are floats that lie ready",
            'ours has large pages, as big_ssl.main asks for them',
            "ratios: time of lightly's step over ours",
        ),
    )


def _figures(name: str, costs: list[Cost], batch: int) -> dict[str, Summary]:
    return {
        f'{name}/cpu_s': summary([cost.cpu for cost in costs]),
        f'{name}/wall_s': summary([cost.wall for cost in costs]),
        f'{name}/images_per_wall_s': summary([batch / cost.wall for cost in costs]),
        f'{name}/system_share': summary([cost.system / cost.cpu for cost in costs]),
    }


def _ours(training: Training, augment: bool) -> Callable[[], float]:
    """One step, which returns its loss."""
    import jax

    from benchmarks import simclr
    from benchmarks.settings import Network, config_with
    from big_ssl.train.compilation import keep_compiled

    keep_compiled()
    changes: dict[str, Any] = {
        'model.dtype': 'float32',
        'method.temperature': _TEMPERATURE,
        'optimizer.name': 'lars',
        'optimizer.learning_rate': _RATE,
        'optimizer.scaling': 'none',
        'optimizer.schedule': 'constant',
        'optimizer.momentum': _MOMENTUM,
        'optimizer.weight_decay': _DECAY,
    }
    if not augment:
        names = ('jitter', 'grey', 'blur')
        changes |= {f'augment.{name}_probability': 0.0 for name in names}
        changes |= {'augment.flip_horizontal': 0.0}
    network = Network(training.depth, 1.0, training.size)
    made = simclr.training_of(config_with(network, training.batch, changes))
    state, batch = made.state(), simclr.random_views(made)
    compiled = simclr.whole_step(made).lower(state, batch).compile()

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        return float(metrics['loss'])

    return step


def _lightly(training: Training, channels_last: bool) -> Callable[[], float]:
    """One step, which returns its loss; two groups of parameters, as in lightly's benchmarks."""
    import torch

    from benchmarks import peers

    models = peers.torchvision().models
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.models.utils import get_weight_decay_parameters
    from lightly.utils.lars import LARS

    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = getattr(models, f'resnet{training.depth}')()
    features, network.fc = network.fc.in_features, torch.nn.Identity()
    head = SimCLRProjectionHead(features, features, 128)
    network = network.to(memory_format=layout)
    decayed, others = get_weight_decay_parameters([network, head])
    groups = [{'params': decayed}, {'params': others, 'weight_decay': 0.0}]
    optimizer = LARS(groups, lr=_RATE, momentum=_MOMENTUM, weight_decay=_DECAY)
    criterion = NTXentLoss(temperature=_TEMPERATURE)
    shape = (training.batch, 3, training.size, training.size)
    views = [torch.rand(shape).contiguous(memory_format=layout) for _ in range(2)]

    def step() -> float:
        loss = criterion(*(head(network(view)) for view in views))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _prepared(way: str, training: Training) -> tuple[Way, Mapping[str, Any]]:
    """The way after its first step, and the loss of that."""
    if way in _OURS:
        step = _ours(training, augment=way == 'ours')
    else:
        step = _lightly(training, channels_last=way == 'lightly_channels_last')
    loss = step()

    def steps() -> int:
        losses = [step() for _ in range(_STEPS)]
        assert np.isfinite(losses).all()
        return _STEPS

    measured = here(steps)

    def turn() -> Cost:
        step()
        return measured()

    return turn, {'loss': loss}


if __name__ == '__main__':
    chosen, *numbers = sys.argv[1:]
    if chosen in _OURS:
        heap.use_large_pages()
    serve(lambda: _prepared(chosen, Training(*map(int, numbers))))
