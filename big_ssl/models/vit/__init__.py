"""ViT (Dosovitskiy et al. 2021, arXiv:2010.11929), of sizes Ti, S, B and L; DINOv2's networks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.models import Key, TorchTwin
from big_ssl.models.naming import Arrays, Match, Names, own
from big_ssl.models.vit import huggingface_names, timm_names
from big_ssl.models.vit.network import HEAD, ViT

__all__ = ['KEYS', 'NAMES', 'TORCH', 'ViT', 'check', 'fit', 'make', 'named', 'title']

_STEM = 'params/encoder/patch_embed/kernel'
KEYS = {
    'depth': Key(12, 'blocks', 1, 64),
    'width': Key(384, f'numbers of a token, {HEAD} for each head', HEAD, 4096),
    'patch': Key(16, 'side in pixels', 2, 64),
    'registers': Key(0, 'tokens that belong to no patch (arXiv:2309.16588)', 0, 64),
    'layer_scale': Key(False, 'what a block adds is scaled, by 1e-5 at first (arXiv:2103.17239)'),
}
SIZES = {'ti': (12, 192), 's': (12, 384), 'b': (12, 768), 'l': (24, 1024)}  # depth, width


def check(config: ConfigDict) -> None:
    width, patch, size = config.model.width, config.model.patch, config.image_size
    if width % HEAD:
        raise InputError(f'config: model.width={width} is no multiple of {HEAD}, a head of a ViT')
    if size % patch:
        below = size // patch * patch
        raise InputError(
            f'config: image_size={size} does not divide into patches of model.patch={patch} '
            f'pixels; give --config.image_size={below + patch}' + (f' or {below}' if below else '')
        )


def make(config: ConfigDict, dtype: Any) -> ViT:
    return ViT(
        **{key: config.model[key] for key in KEYS},
        image_size=config.image_size,
        normalization=config.init_normalization,
        dtype=dtype,
        remat=config.compute.remat,
        scan=config.compute.scan_blocks,
    )


def title(keys: Mapping[str, Any]) -> str:
    sizes = {size: name for name, size in SIZES.items()}
    size = (keys['depth'], keys['width'])
    registers = f' with {keys["registers"]} registers' if keys['registers'] else ''
    name = sizes[size].title() if size in sizes else f'{size[0]}x{size[1]}'
    return f'ViT-{name}/{keys["patch"]}{registers}'


def named(text: str) -> dict[str, Any] | None:
    """`vit_s16`, `vit_l14`."""
    found = re.fullmatch(r'vit_(ti|s|b|l)(8|14|16)', text)
    if found is None:
        return None
    depth, width = SIZES[found[1]]
    return {'depth': depth, 'width': width, 'patch': int(found[2])}


def fit(path: tuple[str, ...], array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Positions of another image size, interpolated as timm does (bicubic, antialiased)."""
    if path[-1] != 'pos_embed' or array.shape == shape or array.shape[1:] != shape[1:]:
        return array
    before, after = (round(count**0.5) for count in (len(array), shape[0]))
    grid = array.astype(np.float32).reshape(before, before, -1)
    resized = jax.image.resize(grid, (after, after, grid.shape[-1]), 'cubic', antialias=True)
    return np.asarray(resized).reshape(shape)


def _recognise_own(arrays: Arrays, prefix: str | None) -> Match | None:
    if _STEM not in arrays:
        return None
    size, width = arrays[_STEM].shape
    encoder = [name.split('/')[2:] for name in arrays if name.startswith('params/encoder/')]
    registers = arrays.get('params/encoder/registers', ())
    settings = {
        'model.name': 'vit',
        'model.depth': len({name for name, *_ in encoder if name.startswith('block')}),
        'model.width': width,
        'model.patch': round((size / 3) ** 0.5),
        'model.registers': len(registers),
        'model.layer_scale': 'params/encoder/block1/ls1' in arrays,
    }
    return own(settings, {'init_normalization': 'none'})


NAMES = (
    Names('timm and DINOv2', 'blocks.0.attn.qkv.weight', timm_names.recognise),
    Names(
        "Hugging Face's ViT and DINOv2",
        'encoder.layer.0.attention.attention.query.weight',
        huggingface_names.recognise,
    ),
    Names('big_ssl', _STEM, _recognise_own),
)
TORCH = TorchTwin(
    source=Path(__file__).with_name('torch_network.py'),
    arguments=(*KEYS, 'image_size'),
    state_dict=timm_names.state_dict,
)
