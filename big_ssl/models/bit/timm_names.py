"""BiT by the names of timm (resnetv2_50x1_bit and its relatives)."""

import numpy as np

from big_ssl.models import naming
from big_ssl.models.naming import Arrays, Match, Path, counts, from_torch
from big_ssl.models.resnet.network import depth_of

_TENSORS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}
_STEM = 'stem.conv.weight'


def name(path: Path) -> str | None:
    """timm's name of a variable; None where its network has none.

    ('params', 'encoder', 'stage1', 'block1', 'gn2', 'scale') → 'stages.0.blocks.0.norm2.weight'
    """
    _, part, *layers, tensor = path
    if part == 'classifier':
        return f'head.fc.{_TENSORS[tensor]}'
    if part != 'encoder':
        return None
    if layers == ['conv_stem']:
        return _STEM
    if layers == ['gn_last']:
        return f'norm.{_TENSORS[tensor]}'
    stage, block, layer = layers
    place = f'stages.{int(stage[5:]) - 1}.blocks.{int(block[5:]) - 1}'
    layer = 'downsample.conv' if layer == 'conv_shortcut' else layer.replace('gn', 'norm')
    return f'{place}.{layer}.{_TENSORS[tensor]}'


def to_torch(path: Path, array: np.ndarray) -> np.ndarray:
    """In torch's order of axes; timm's classifier is a 1x1 convolution."""
    if path[1] == 'classifier' and array.ndim == 2:
        return array.T[:, :, None, None]
    return naming.to_torch(array)


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """The match of a file with these names, or None.

    Raises:
      ValueError: it is a network that is not known here.
    """
    if _STEM not in arrays or 'stages.0.blocks.0.norm1.weight' not in arrays:
        return None
    blocks = counts(arrays, (rf'stages\.{k}\.blocks\.\d+\.conv1\.weight' for k in range(4)))
    return Match(
        family='BiT by the names of timm',
        settings={
            'model.name': 'bit',
            'model.depth': depth_of(blocks, bottlenecks=True),
            'model.width': arrays[_STEM].shape[0] / 64,
        },
        usual={'init_normalization': 'symmetric'},
        name_of=name,
        layout=_to_ours,
        of_encoder=lambda each: each.startswith(('stem.', 'stages.', 'norm.')),
    )


def _to_ours(path: Path, array: np.ndarray) -> np.ndarray:
    if path[1] == 'classifier' and array.ndim == 4:
        array = array[:, :, 0, 0]
    return from_torch(array)
