"""ViTs and DINOv2 by the names of Hugging Face's transformers, with three matrices for one."""

import dataclasses
import re

import numpy as np

from big_ssl.models.naming import Arrays, Match, only
from big_ssl.models.vit import timm_names

_FIRST = re.compile(r'^((?:.*\.)?)encoder\.layer\.0\.attention\.attention\.query\.weight$')
_QUERY = re.compile(r'blocks\.\d+\.attention\.attention\.query\.(weight|bias)')
_HEAD = ('weight', 'bias')
_RENAMED = (  # in this order, on the names behind the prefix
    (r'^encoder\.layer\.', 'blocks.'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'^embeddings\.', ''),
    (r'^layernorm\.', 'norm.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'^(blocks\.\d+)\.output\.dense\.', r'\1.mlp.fc2.'),
)


def recognise(arrays: Arrays, prefix: str | None = None) -> Match | None:
    """As `timm_names.recognise`, of which it is the match once the names are timm's."""
    prefixes = [first[1] for each in arrays if (first := _FIRST.match(each))]
    if not prefixes:
        return None
    before = only(sorted(prefixes), prefix)
    ours = {key: array for key, array in arrays.items() if key.startswith(before)}
    theirs = {_renamed(key.removeprefix(before)): array for key, array in ours.items()}
    for name in [name for name in theirs if _QUERY.fullmatch(name)]:
        parts = [name.replace('query', part) for part in ('query', 'key', 'value')]
        if missing := [part for part in parts if part not in theirs]:
            raise ValueError(f'a ViT without {missing[0]}')
        fused = np.concatenate([theirs.pop(part) for part in parts])
        theirs[name.replace('attention.attention.query', 'attn.qkv')] = fused
    if 'classifier.weight' in arrays:
        theirs |= {f'head.{tensor}': arrays[f'classifier.{tensor}'] for tensor in _HEAD}
    found = timm_names.recognise(theirs)
    return found and dataclasses.replace(found, family='ViT by the names of Hugging Face')


def _renamed(name: str) -> str:
    for pattern, new in _RENAMED:
        name = re.sub(pattern, new, name)
    return name
