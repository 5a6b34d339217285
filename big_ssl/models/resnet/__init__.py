"""ResNet (He et al. 2016, arXiv:1512.03385) of any width: the backbone of SimCLR and MICLe."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from big_ssl.models import Key, TorchTwin
from big_ssl.models.naming import Arrays, Match, Names, counts, own, to_torch
from big_ssl.models.resnet import simclr_names, torchvision_names
from big_ssl.models.resnet.network import (
    PADDINGS,
    STAGE_SIZES,
    STEMS,
    ResNet,
    depth_of,
    feature_size,
)

__all__ = ['KEYS', 'NAMES', 'STAGE_SIZES', 'TORCH', 'ResNet', 'depth_of', 'feature_size', 'make',
           'named', 'title']  # fmt: skip

_STEM = 'params/encoder/conv_stem/kernel'
KEYS = {
    'depth': Key(50, 'layers', choices=tuple(STAGE_SIZES)),
    'width': Key(1.0, 'multiplier of the channels', 0.25, 4),
    'stem': Key('standard', 'small_images: for 64 px and below', choices=STEMS),
    'padding': Key(
        'auto', "as init_from needs it; symmetric (torch), TensorFlow's (same), some of each",
        choices=('auto', *PADDINGS),
    ),
}  # fmt: skip


def make(config: ConfigDict, dtype: Any) -> ResNet:
    return ResNet(
        depth=config.model.depth,
        width=config.model.width,
        stem=config.model.stem,
        padding=config.model.padding,
        normalization=config.init_normalization,
        dtype=dtype,
        remat=config.compute.remat,
        scan=config.compute.scan_blocks,
    )


def title(keys: Mapping[str, Any]) -> str:
    return f'ResNet-{keys["depth"]} ({keys["width"]:g}x)'


def named(text: str) -> dict[str, Any] | None:
    """`resnet50`, `resnet152x2`."""
    found = re.fullmatch(r'resnet(\d+)(?:x(\d+(?:\.\d+)?))?', text)
    return found and {'depth': int(found[1]), 'width': float(found[2] or 1)}


def _recognise_own(arrays: Arrays, prefix: str | None) -> Match | None:
    if _STEM not in arrays or 'params/encoder/bn_stem/scale' not in arrays:
        return None
    kernels = (rf'params/encoder/stage{k}/block\d+/conv1/kernel' for k in range(1, 5))
    bottlenecks = 'params/encoder/stage1/block1/conv3/kernel' in arrays
    settings = {
        'model.name': 'resnet',
        'model.depth': depth_of(counts(arrays, kernels), bottlenecks),
        'model.width': np.shape(arrays[_STEM])[-1] / 64,
        'model.stem': 'standard' if np.shape(arrays[_STEM])[0] == 7 else 'small_images',
    }
    return own(settings, {'model.padding': 'torch', 'init_normalization': 'none'})


def _state_dict(variables: Mapping[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    named = ((torchvision_names.name(path), to_torch(array)) for path, array in variables.items())
    return {name: array for name, array in named if name is not None}


NAMES = (
    Names('torchvision and timm', 'layer1.0.conv1.weight', torchvision_names.recognise),
    Names('SimCLR', 'base_model/conv2d/kernel', simclr_names.recognise),
    Names('big_ssl', _STEM, _recognise_own),
)
TORCH = TorchTwin(
    source=Path(__file__).with_name('torch_network.py'),
    arguments=('depth', 'width', 'stem', 'padding'),
    state_dict=_state_dict,
)
