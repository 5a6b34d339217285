"""ViTs by the names of timm, which DINO, MAE and DINOv2 share.

The class token has no position of its own here: in others' files it is added to the token, and in
ours it is zero where timm has one.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from big_ssl.models import naming
from big_ssl.models.naming import Arrays, Match, Path, from_torch, only

WIDTHS = (192, 384, 768, 1024)  # ViT-Ti, S, B, L: heads of 64; larger networks have others
_PLACES = {'qkv': 'attn.qkv', 'proj': 'attn.proj', 'fc1': 'mlp.fc1', 'fc2': 'mlp.fc2'}
_TENSORS = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias'}
_TOKENS = {'cls_token': 'cls_token', 'registers': 'reg_token', 'pos_embed': 'pos_embed'}
_FIRST = re.compile(r'^((?:.*\.)?)blocks\.0\.attn\.qkv\.weight$')
_ENCODER = ('cls_token', 'reg_token', 'dist_token', 'pos_embed', 'patch_embed.', 'blocks.', 'norm.',
            'norm_pre.', 'fc_norm.', 'attn_pool.')  # fmt: skip


def name(path: Path) -> str | None:
    """timm's name of a variable; None where its network has none.

    ('params', 'encoder', 'block1', 'fc1', 'kernel') → 'blocks.0.mlp.fc1.weight'
    """
    _, part, *layers, tensor = path
    if part == 'classifier':
        return f'head.{_TENSORS[tensor]}'
    if part != 'encoder':
        return None
    if not layers:
        return _TOKENS[tensor]
    if layers == ['patch_embed']:
        return f'patch_embed.proj.{_TENSORS[tensor]}'
    if layers == ['norm']:
        return f'norm.{_TENSORS[tensor]}'
    place = f'blocks.{int(layers[0].removeprefix("block")) - 1}'
    if tensor in ('ls1', 'ls2'):
        return f'{place}.{tensor}.gamma'
    return f'{place}.{_PLACES.get(layers[1], layers[1])}.{_TENSORS[tensor]}'


def state_dict(variables: Mapping[Path, np.ndarray]) -> dict[str, np.ndarray]:
    """Our variables by timm's names and in torch's order of axes."""
    named = {name(path): _to_torch(path, array) for path, array in variables.items()}
    found = {key: array for key, array in named.items() if key is not None}
    if 'reg_token' not in found:  # timm has no position of the class token where there are some
        found['pos_embed'] = np.pad(found['pos_embed'], ((0, 0), (1, 0), (0, 0)))
    return found


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """The match of a file with these names, or None.

    Args:
      arrays: of the file.
      prefix: of the network's names, where the file holds several networks.

    Raises:
      ValueError: it holds several networks, or a ViT that is not known here.
    """
    found = [first[1] for each in arrays if (first := _FIRST.match(each))]
    if not found:
        return None
    before = only(sorted(found), prefix)
    theirs = {k.removeprefix(before): v for k, v in arrays.items() if k.startswith(before)}
    theirs = without_class_position(theirs)
    return Match(
        family='ViT by the names of timm',
        settings=settings(theirs),
        usual={'init_normalization': _usual_range(theirs)},
        name_of=lambda path: (plain := name(path)) and before + plain,
        layout=_to_ours,
        of_encoder=lambda each: (
            each.startswith(before) and each.removeprefix(before).startswith(_ENCODER)
        ),
        arrays={before + key: array for key, array in theirs.items()},
    )


def settings(arrays: Arrays) -> dict[str, Any]:
    """Of the network that these arrays belong to; raises ValueError where it is not known here."""
    kernel = arrays.get('patch_embed.proj.weight')
    if kernel is None or np.ndim(kernel) != 4 or kernel.shape[2] != kernel.shape[3]:
        raise ValueError('patch_embed.proj.weight is not there, or not of square patches')
    if kernel.shape[0] not in WIDTHS:
        raise ValueError(
            f'a ViT of width {kernel.shape[0]}; known are {", ".join(map(str, WIDTHS))}'
        )
    blocks = {int(each.split('.')[1]) for each in arrays if re.match(r'blocks\.\d+\.', each)}
    return {
        'model.name': 'vit',
        'model.depth': len(blocks),
        'model.width': kernel.shape[0],
        'model.patch': kernel.shape[2],
        'model.registers': arrays['reg_token'].shape[1] if 'reg_token' in arrays else 0,
        'model.layer_scale': 'blocks.0.ls1.gamma' in arrays,
    }


def without_class_position(arrays: Arrays) -> dict[str, np.ndarray]:
    """The position of the class token, if there is one, is added to it; FAIR's names are timm's."""
    found = dict(arrays)
    if 'register_tokens' in found:
        found['reg_token'] = found.pop('register_tokens')
    for token in ('cls_token', 'pos_embed', *(('reg_token',) if 'reg_token' in found else ())):
        if token not in found or found[token].ndim != 3:
            raise ValueError(f'a ViT without {token}, or one that is not [1, tokens, width]')
    positions = found['pos_embed']
    if not _is_square(count := positions.shape[1]):
        if not _is_square(count - 1):
            raise ValueError(f'pos_embed has {count} positions, neither of a square nor one more')
        found['cls_token'] = found['cls_token'] + positions[:, :1]
        found['pos_embed'] = positions[:, 1:]
    return found


def _usual_range(arrays: Arrays) -> str:
    """timm's classifiers see [-1, 1], networks without one (DINO, MAE, DINOv2) ImageNet's mean."""
    is_dinov2 = 'blocks.0.ls1.gamma' in arrays
    return 'symmetric' if 'head.weight' in arrays and not is_dinov2 else 'imagenet'


def _is_square(count: int) -> bool:
    return round(count**0.5) ** 2 == count


def _to_ours(path: Path, array: np.ndarray) -> np.ndarray:
    if path[-1] in _TOKENS:
        return array[0]
    array = from_torch(array)
    return array.reshape(-1, array.shape[-1]) if array.ndim == 4 else array


def _to_torch(path: Path, array: np.ndarray) -> np.ndarray:
    if path[-1] in _TOKENS:
        return array[None]
    if path[-2] == 'patch_embed' and array.ndim == 2:
        side = round((array.shape[0] / 3) ** 0.5)
        array = array.reshape(side, side, 3, -1)
    return naming.to_torch(array)
