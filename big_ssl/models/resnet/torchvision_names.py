"""ResNets by the names of torchvision, which timm, lightly, MoCo and others share."""

import re

import numpy as np

from big_ssl.models.naming import Arrays, Match, Path, counts, from_torch, only
from big_ssl.models.resnet.network import depth_of

_TENSORS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias',
            'mean': 'running_mean', 'var': 'running_var'}  # fmt: skip
_STEM = {'conv_stem': 'conv1', 'bn_stem': 'bn1'}
_SHORTCUT = {'conv_shortcut': 'downsample.0', 'bn_shortcut': 'downsample.1'}
_NAMES = ('conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4')
# Places in torch.nn.Sequential(*resnet.children()), by which lightly cuts off the classifier.
_PLACES = dict(zip(_NAMES, ('0', '1', '4', '5', '6', '7')))
_FIRST = re.compile(r'^((?:.*\.)?)(layer1|4)\.0\.conv1\.weight$')


def name(path: Path) -> str | None:
    """torchvision's name of a variable; None where its network has none.

    ('params', 'encoder', 'stage1', 'block1', 'conv1', 'kernel') → 'layer1.0.conv1.weight'
    """
    _, part, *layers, tensor = path
    if part == 'classifier':
        return f'fc.{_TENSORS[tensor]}'
    if part != 'encoder':
        return None
    if len(layers) == 1:
        return f'{_STEM[layers[0]]}.{_TENSORS[tensor]}'
    stage, block, layer = layers
    place = f'layer{stage.removeprefix("stage")}.{int(block.removeprefix("block")) - 1}'
    return f'{place}.{_SHORTCUT.get(layer, layer)}.{_TENSORS[tensor]}'


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """The match of a file with these names, or None.

    Args:
      arrays: of the file.
      prefix: of the network's names, where the file holds several networks.

    Raises:
      ValueError: it holds several networks, or a ResNet that is not known here.
    """
    firsts = [first for each in arrays if (first := _FIRST.match(each))]
    found = {first[1]: first[2] for first in firsts}
    if not found:
        return None
    before = only(sorted(found), prefix)
    modules = _PLACES if found[before] == '4' else dict(zip(_NAMES, _NAMES))

    def named(path: Path) -> str | None:
        plain = name(path)
        if plain is None or path[1] != 'encoder':
            return plain and before + plain
        module, _, rest = plain.partition('.')
        return f'{before}{modules[module]}.{rest}'

    stem = arrays.get(f'{before}{modules["conv1"]}.weight')
    if stem is None or np.ndim(stem) != 4:
        raise ValueError(f'{before}{modules["conv1"]}.weight is not there')
    encoder = re.compile(rf'{re.escape(before)}({"|".join(modules.values())})\.')
    return Match(
        family='ResNet by the names of torchvision and timm',
        settings={
            'model.name': 'resnet',
            'model.depth': _depth(arrays, before, modules),
            'model.width': stem.shape[0] / 64,
            'model.stem': 'standard' if stem.shape[-1] == 7 else 'small_images',
        },
        usual={'model.padding': 'torch', 'init_normalization': 'imagenet'},
        name_of=named,
        layout=lambda path, array: from_torch(array),
        of_encoder=lambda each: bool(encoder.match(each)) and not each.endswith('_tracked'),
    )


def _depth(arrays: Arrays, before: str, modules: dict[str, str]) -> int:
    stages = [rf'{re.escape(before)}{modules[f"layer{k}"]}' for k in range(1, 5)]
    blocks = counts(arrays, (rf'{stage}\.\d+\.conv1\.weight' for stage in stages))
    return depth_of(blocks, f'{before}{modules["layer1"]}.0.conv3.weight' in arrays)
