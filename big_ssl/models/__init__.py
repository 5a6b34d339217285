"""Backbones: networks from images to features, a folder each.

`config.model.name` is the name of a folder here, one of its networks (`resnet152x2`, `vit_s16`), or
a dotted path to a module of the user's own (`lab.my_network`, importable from where the command is
run). What such a module has is in `Backbone`: KEYS and `make` at least. Nothing else in big_ssl
knows its name.
"""

from __future__ import annotations

import dataclasses
import functools
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, NamedTuple

from big_ssl import extensions
from big_ssl.keys import Key

if TYPE_CHECKING:
    import flax.linen as nn
    import numpy as np
    from ml_collections import ConfigDict

    from big_ssl.models.naming import Names, Path, Shape

__all__ = ['Backbone', 'Key', 'TorchTwin', 'load', 'names', 'network']


class TorchTwin(NamedTuple):
    """The same network in PyTorch: for exports to it, and to ONNX.

    Attributes:
      source: a file that needs PyTorch alone, with `Network(outputs, …)`: images float32
        [n, 3, h, w], already normalised, to features or, with `outputs` above 0, to logits.
      arguments: fields of our module that `Network` takes besides `outputs`.
      state_dict: our variables, by path, by the names and in the order of axes of `Network`.
    """

    source: FilePath
    arguments: tuple[str, ...]
    state_dict: Callable[[Mapping[Path, np.ndarray]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """What the module of a backbone has. What has a default here may be missing there.

    Attributes:
      name: of the module.
      KEYS: of `config.model`, besides the two that all backbones have. One whose default is `auto`
        becomes what the weights of `init_from` need, and without them the second of its choices.
      make: (config, dtype) → a Flax module: (images float32 [n, h, w, 3] in [0, 1], train) →
        features float32 [n, d]. It does by itself what `config.init_normalization` says to images
        (`inputs.normalize`), and says so by an attribute `normalization`.
      title: (`config.model`) → what people call it: 'ResNet-50 (2x)'.
      named: (text) → KEYS of the network that people call so, or None.
      check: (config) → None; raises InputError where keys do not fit each other.
      fit: (path, array, shape) → the array of a network for other images, of the size that the
        variable has here; an array that cannot be is returned as it is.
      NAMES: in files of others.
      TORCH: None where it cannot leave as safetensors or ONNX.
    """

    name: str
    KEYS: Mapping[str, Key]
    make: Callable[[ConfigDict, Any], nn.Module]
    title: Callable[[Mapping[str, Any]], str] = lambda keys: keys['name']
    named: Callable[[str], dict[str, Any] | None] = lambda text: None
    check: Callable[[ConfigDict], None] = lambda config: None
    fit: Callable[[Path, np.ndarray, Shape], np.ndarray] = lambda path, array, shape: array
    NAMES: Sequence[Names] = ()
    TORCH: TorchTwin | None = None

    @property
    def open_keys(self) -> dict[str, tuple[Any, ...]]:
        """Keys that weights decide, with what they may become, the first without weights."""
        return {key: key_.choices[1:] for key, key_ in self.KEYS.items() if key_.default == 'auto'}


@functools.cache
def load(name: str) -> Backbone:
    """The backbone of a name.

    Raises:
      InputError: there is none, or its module lacks what a backbone has.
    """
    parts = ('KEYS', 'make')
    module = extensions.load(__name__, 'model.name', name, known=names(), parts=parts)
    has = {field.name for field in dataclasses.fields(Backbone)} - {'name'}
    return Backbone(name, **{part: getattr(module, part) for part in has if hasattr(module, part)})


def names() -> list[str]:
    """Those of the backbones in this folder; plain files are what they are built of."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def network(text: str) -> dict[str, Any]:
    """Keys of `config.model` by the name of a backbone, or of a network of one.

    `vit_s16` is {'name': 'vit', 'depth': 12, 'width': 384, 'patch': 16}.

    Raises:
      InputError: as `load`.
    """
    for name in names() if text not in names() else ():
        if (found := load(name).named(text)) is not None:
            return {'name': name, **found}
    return {'name': load(text).name}
