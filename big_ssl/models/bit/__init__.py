"""BiT (Kolesnikov et al. 2020, arXiv:1912.11370): ResNet-v2 with group normalisation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.models import Key, TorchTwin
from big_ssl.models.bit import published_names, timm_names
from big_ssl.models.bit.network import DEPTHS, GROUPS, BiT, feature_size
from big_ssl.models.naming import Arrays, Match, Names, counts, own
from big_ssl.models.resnet.network import depth_of

__all__ = ['KEYS', 'NAMES', 'TORCH', 'BiT', 'check', 'feature_size', 'make', 'title']

_LAST = 'params/encoder/gn_last/scale'
KEYS = {
    'depth': Key(50, 'layers', choices=DEPTHS),
    'width': Key(1.0, 'multiplier of the channels: 0.5, 1, 1.5 …', 0.5, 4),
}


def check(config: ConfigDict) -> None:
    if 64 * config.model.width % GROUPS:
        raise InputError(
            f'config: model.width={config.model.width} does not divide into {GROUPS} groups of '
            'channels; use 0.5, 1, 1.5 …'
        )


def make(config: ConfigDict, dtype: Any) -> BiT:
    return BiT(
        depth=config.model.depth,
        width=config.model.width,
        normalization=config.init_normalization,
        dtype=dtype,
        remat=config.compute.remat,
        scan=config.compute.scan_blocks,
    )


def title(keys: Mapping[str, Any]) -> str:
    return f'BiT ResNet-{keys["depth"]} ({keys["width"]:g}x)'


def named(text: str) -> dict[str, Any] | None:
    """`bit50x1`, `bit152x4`."""
    found = re.fullmatch(r'bit(\d+)x(\d+(?:\.\d+)?)', text)
    return found and {'depth': int(found[1]), 'width': float(found[2])}


def _recognise_own(arrays: Arrays, prefix: str | None) -> Match | None:
    if _LAST not in arrays:
        return None
    kernels = (rf'params/encoder/stage{k}/block\d+/conv1/kernel' for k in range(1, 5))
    settings = {
        'model.name': 'bit',
        'model.depth': depth_of(counts(arrays, kernels), bottlenecks=True),
        'model.width': np.shape(arrays['params/encoder/conv_stem/kernel'])[-1] / 64,
    }
    return own(settings, {'init_normalization': 'none'})


def _state_dict(variables: Mapping[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    named = (
        (timm_names.name(path), timm_names.to_torch(path, array))
        for path, array in variables.items()
    )
    return {name: array for name, array in named if name is not None}


NAMES = (
    Names(
        'the published files of BiT',
        'resnet/root_block/standardized_conv2d/kernel',
        published_names.recognise,
    ),
    Names("timm's BiT", 'stages.0.blocks.0.norm1.weight', timm_names.recognise),
    Names('big_ssl', _LAST, _recognise_own),
)
TORCH = TorchTwin(
    source=Path(__file__).with_name('torch_network.py'),
    arguments=('depth', 'width'),
    state_dict=_state_dict,
)
