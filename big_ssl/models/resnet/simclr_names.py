"""ResNets by the names of SimCLR's own code, of its TF1 checkpoints and its TF2 SavedModels.

Both number convolutions and normalisations in the order in which they were made: the stem, then in
each block the shortcut, if it has one, before the others (google-research/simclr, resnet.py and
tf2/resnet.py). TF1 says `base_model/conv2d_3/kernel`, TF2 puts the names of its layers before that.
"""

import re
from collections.abc import Iterator

import numpy as np

from big_ssl.models.naming import Arrays, Match, Path
from big_ssl.models.resnet.network import BOTTLENECK_DEPTHS

_CONV = re.compile(r'^(?P<before>.*?)(?P<layer>conv2d(_\d+)?)/kernel$')
_NORM = re.compile(r'^(?P<before>.*?)(?P<layer>(sync_)?batch_normalization(_v1)?(_\d+)?)/gamma$')
_EMA = 'ema_model/'
_TENSORS = {'kernel': 'kernel', 'scale': 'gamma', 'bias': 'beta',
            'mean': 'moving_mean', 'var': 'moving_variance'}  # fmt: skip


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """The match of a file with these names, or None.

    Args:
      arrays: of the file.
      prefix: `ema_model/` for the moving average of the weights, where the file holds both.

    Raises:
      ValueError: it is a network that is not known here.
    """
    ours = _chosen(arrays, prefix)
    convs, norms = _numbered(ours, _CONV), _numbered(ours, _NORM)
    if not convs or not norms:
        return None
    if (depth := _depth_by_count(len(convs))) is None or len(norms) != len(convs):
        raise ValueError(
            f'{len(convs)} convolutions and {len(norms)} normalisations, which is no ResNet of '
            'SimCLR with bottlenecks and without selective kernels (sk0); others are not supported'
        )
    layers = dict(zip(_order(depth), zip(convs, norms)))
    stem = arrays[f'{convs[0]}/kernel']

    def named(path: Path) -> str | None:
        if path[1] != 'encoder':
            return _of_head(ours, path)
        *layer, tensor = path[2:]
        conv, norm = layers[_place(layer)]
        return f'{conv if tensor == "kernel" else norm}/{_TENSORS[tensor]}'

    return Match(
        family="ResNet by the names of SimCLR's code",
        settings={
            'model.name': 'resnet',
            'model.depth': depth,
            'model.width': np.shape(stem)[-1] / 64,
            'model.stem': 'standard' if np.shape(stem)[0] == 7 else 'small_images',
        },
        usual={'model.padding': 'simclr', 'init_normalization': 'none'},
        name_of=named,
        layout=lambda path, array: array,
        of_encoder=lambda each: False,  # all convolutions and normalisations are counted above
    )


def _chosen(arrays: Arrays, prefix: str | None) -> Arrays:
    """The arrays of one of the two networks that SimCLR v2's checkpoints hold."""
    average = {name: array for name, array in arrays.items() if name.startswith(_EMA)}
    plain = {name: array for name, array in arrays.items() if name not in average}
    if prefix is not None:
        return {name: array for name, array in arrays.items() if name.startswith(prefix)}
    return plain or average


def _numbered(arrays: Arrays, pattern: re.Pattern[str]) -> list[str]:
    """Layers of the encoder in the order of their numbers; those of heads come after all others."""
    found = [each for name in arrays if (each := pattern.match(name))]
    layers = [each['before'] + each['layer'] for each in found if 'head' not in each['before']]
    return sorted(layers, key=_number)


def _number(layer: str) -> int:
    """conv2d_3 → 3, conv2d → 0"""
    found = re.search(r'_(\d+)$', layer)
    return int(found[1]) if found else 0


def _order(depth: int) -> Iterator[tuple[str, ...]]:
    """Places of convolutions, and so of normalisations, as SimCLR's code makes them."""
    yield ('stem',)
    for stage, blocks in enumerate(BOTTLENECK_DEPTHS[depth], 1):
        for block in range(1, blocks + 1):
            for number in ('shortcut', '1', '2', '3') if block == 1 else ('1', '2', '3'):
                yield f'stage{stage}', f'block{block}', number


def _place(layer: list[str]) -> tuple[str, ...]:
    """['stage1', 'block1', 'conv1'] or its 'bn1' → ('stage1', 'block1', '1')."""
    return *layer[:-1], re.sub('^(conv|bn)_?', '', layer[-1])


def _depth_by_count(convolutions: int) -> int | None:
    for depth in BOTTLENECK_DEPTHS:
        if len(list(_order(depth))) == convolutions:
            return depth
    return None


def _of_head(arrays: Arrays, path: Path) -> str | None:
    """`nl_0` … are the layers of the projection head, each with one dense layer and one norm."""
    part, layer, tensor = path[1], path[2], path[-1]
    if part == 'projection':
        number = int(re.sub(r'\D', '', layer)) - 1
        pattern = rf'(^|/)nl_{number}/(.*/)?{_TENSORS[tensor]}$'
    else:
        pattern = rf'(^|/)linear_layer/(.*/)?{tensor}$'
    return next((name for name in arrays if re.search(pattern, name)), None)
