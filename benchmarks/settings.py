"""What one benchmark measures: a network, its images, and for how long."""

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.models.resnet import STAGE_SIZES

_INDEXED = 2**31  # elements of one array, as cuDNN counts them


@dataclasses.dataclass(frozen=True)
class Network:
    """A ResNet and the images that it is given."""

    depth: int
    width: float
    image_size: int = 224
    stem: str = 'standard'


NETWORKS = {
    'r50': Network(50, 1.0),
    'r50x4': Network(50, 4.0),
    'r152x2': Network(152, 2.0),
    'toy': Network(18, 0.25, 32, 'small_images'),
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Of one process that measures.

    Attributes:
      network: one of NETWORKS.
      batch: examples in a step, each of two views.
      seconds: of measuring, for each figure, warm-up aside.
      repeats: figures in that time; their median is reported.
      manifest: a table of real images; '' draws some.
      changes: 'key=value' of the config, as `compute.remat=norms`.
      compiler: of `torch.compile`.
      product, copied: side of the matrices and bytes of the copy that give the ceilings.
    """

    network: str
    batch: int
    seconds: float
    repeats: int
    manifest: str
    changes: tuple[str, ...]
    compiler: str
    product: int
    copied: int


def config_of(setting: Setting, **more: Any) -> ConfigDict:
    """Pre-training by `configs/imagenet_simclr.py` at this size, two crops of one image.

    Args:
      more: further keys, `__` for a dot.

    Raises:
      InputError: a change does not hold.
      KeyError: a change of a key that does not exist.
    """
    changes = {key.replace('__', '.'): value for key, value in more.items()}
    changes |= dict(map(_change, setting.changes))
    return config_with(NETWORKS[setting.network], setting.batch, changes)


def config_with(network: Network, batch: int, changes: Mapping[str, Any]) -> ConfigDict:
    """Pre-training of a network; raises as `config_of`.

    Args:
      batch: examples in a step.
      changes: by dotted key.
    """
    config = config_lib.defaults()
    values = {
        'batch_size': batch,
        'image_size': network.image_size,
        'model.depth': network.depth,
        'model.width': network.width,
        'model.stem': network.stem,
        'warmup_epochs': 0,
        'total_epochs': None,
        'total_steps': 100_000,
    }
    config.update_from_flattened_dict({**values, **changes})
    return config_lib.settle(config)


def first_try(network: Network, memory: float) -> int:
    """The largest power of two that might fit into so many bytes: examples of two views.

    Counts two bytes for each output of a convolution and two for what is made of it, and for each
    parameter its float32 value, gradient and velocity: less than any framework needs. No more than
    what lets cuDNN index the stem's output.
    """
    activations, parameters = sizes(network)
    room = memory - 12 * parameters
    channels, side = _stem(network)
    batch = 2
    while 2 * batch * 2 * 4 * activations <= room and 2 * batch * 2 * side**2 * channels < _INDEXED:
        batch *= 2
    return batch


def sizes(network: Network) -> tuple[int, int]:
    """Numbers out of the convolutions of one view, and parameters of the convolutions."""
    channels, side = _stem(network)
    small = network.stem == 'small_images'
    activations, parameters = side**2 * channels, 3 * (9 if small else 49) * channels
    side, before = side if small else side // 2, channels
    bottleneck = network.depth >= 50
    for stage, blocks in enumerate(STAGE_SIZES[network.depth]):
        inner = channels * 2**stage
        out = 4 * inner if bottleneck else inner
        for block in range(blocks):
            entering, side = side, side // 2 if stage and not block else side
            shortcut = before != out
            if bottleneck:
                activations += entering**2 * inner + side**2 * (inner + out + shortcut * out)
                parameters += before * inner + 9 * inner**2 + inner * out
            else:
                activations += side**2 * (2 + shortcut) * out
                parameters += 9 * (before + out) * out
            parameters += shortcut * before * out
            before = out
    return activations, parameters


def _stem(network: Network) -> tuple[int, int]:
    """Channels and side of what its first convolution makes."""
    side = network.image_size if network.stem == 'small_images' else network.image_size // 2
    return round(64 * network.width), side


def _change(text: str) -> tuple[str, Any]:
    key, _, value = text.partition('=')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value
