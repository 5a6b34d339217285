"""BiT by the names of its published .npz files (google-research/big_transfer)."""

import numpy as np

from big_ssl.models.naming import Arrays, Match, Path, counts
from big_ssl.models.resnet.network import depth_of

_ROOT = 'resnet/root_block/standardized_conv2d/kernel'
_TENSORS = {'scale': 'gamma', 'bias': 'beta'}
_LETTERS = {'1': 'a', '2': 'b', '3': 'c'}


def name(path: Path) -> str | None:
    """BiT's name of a variable; None where its network has none.

    ('params', 'encoder', 'stage1', 'block1', 'gn2', 'scale') becomes
    'resnet/block1/unit01/b/group_norm/gamma'.
    """
    _, part, *layers, tensor = path
    if part == 'classifier':
        return f'resnet/head/conv2d/{tensor}'
    if part != 'encoder':
        return None
    if layers == ['conv_stem']:
        return _ROOT
    if layers == ['gn_last']:
        return f'resnet/group_norm/{_TENSORS[tensor]}'
    stage, block, layer = layers
    unit = f'resnet/block{stage.removeprefix("stage")}/unit{int(block.removeprefix("block")):02d}'
    if layer == 'conv_shortcut':
        return f'{unit}/a/proj/standardized_conv2d/kernel'
    place = f'{unit}/{_LETTERS[layer[-1]]}'
    if layer.startswith('conv'):
        return f'{place}/standardized_conv2d/kernel'
    return f'{place}/group_norm/{_TENSORS[tensor]}'


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """The match of a file with these names, or None.

    Raises:
      ValueError: it is a network that is not known here.
    """
    if _ROOT not in arrays:
        return None
    return Match(
        family='BiT by the names of its published files',
        settings={
            'model.name': 'bit',
            'model.depth': _depth(arrays),
            'model.width': np.shape(arrays[_ROOT])[-1] / 64,
        },
        usual={'init_normalization': 'symmetric'},
        name_of=name,
        layout=_to_ours,
        of_encoder=lambda each: each.startswith('resnet/') and not each.startswith('resnet/head/'),
    )


def _to_ours(path: Path, array: np.ndarray) -> np.ndarray:
    """As it is, but that the classifier's 1x1 convolution is a matrix."""
    return array[0, 0] if path[1] == 'classifier' and array.ndim == 4 else array


def _depth(arrays: Arrays) -> int:
    kernels = (rf'resnet/block{k}/unit\d+/a/standardized_conv2d/kernel' for k in range(1, 5))
    return depth_of(counts(arrays, kernels), bottlenecks=True)
