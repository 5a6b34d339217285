"""Networks of big_ssl by the names of their own variables: `params/encoder/conv_stem/kernel`."""

import dataclasses
from typing import Any

import numpy as np

from big_ssl.models.resnet import depth_of
from big_ssl.weights.match import Arrays, Match, Path, counts

FAMILY = 'network of big_ssl'
_ENCODER = ('params/encoder/', 'batch_stats/encoder/')


def name(path: Path) -> str:
    """('params', 'encoder', 'conv_stem', 'kernel') → 'params/encoder/conv_stem/kernel'."""
    return '/'.join(path)


def match(settings: dict[str, Any] | None = None) -> Match:
    """The match of a network, which was made with these settings where they are known."""
    return Match(
        family=FAMILY,
        settings=settings or {},
        usual={},
        name_of=name,
        layout=lambda path, array: array,
        of_encoder=lambda each: each.startswith(_ENCODER),
    )


def recognise(arrays: Arrays) -> Match | None:
    """The match of a file with these names, or None.

    Raises:
      ValueError: it is a network that is not known here.
    """
    stem = arrays.get('params/encoder/conv_stem/kernel')
    if stem is None:
        return None
    found = match(
        {
            'model.backbone': 'bit' if 'params/encoder/gn_last/scale' in arrays else 'resnet',
            'model.depth': _depth(arrays),
            'model.width': np.shape(stem)[-1] / 64,
            'model.stem': 'standard' if np.shape(stem)[0] == 7 else 'small_images',
        }
    )
    return dataclasses.replace(
        found, usual={'model.padding': 'torch', 'init_normalization': 'none'}
    )


def _depth(arrays: Arrays) -> int:
    kernels = (rf'params/encoder/stage{k}/block\d+/conv1/kernel' for k in range(1, 5))
    bottlenecks = 'params/encoder/stage1/block1/conv3/kernel' in arrays
    return depth_of(counts(arrays, kernels), bottlenecks)
