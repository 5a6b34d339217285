"""How others call the arrays of a backbone in the files that they publish."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]
# Of a variable: ('params', 'encoder', 'stage1', 'block1', 'conv1', 'kernel').
Path = tuple[str, ...]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Match:
    """Whose names a file of weights has, and what they tell.

    Attributes:
      family: for people.
      settings: of the network that the arrays belong to, by keys of the config.
      usual: of what names cannot tell, as the family has it.
      name_of: the file's name for a variable of ours; None where the family has none.
      layout: an array of the file for a variable of ours, in our order of axes.
      of_encoder: whether a name of the file must be used by an encoder.
      arrays: in place of the file's, where several of those make one of ours.
    """

    family: str
    settings: dict[str, Any]
    usual: dict[str, Any]
    name_of: Callable[[Path], str | None]
    layout: Callable[[Path, np.ndarray], np.ndarray]
    of_encoder: Callable[[str], bool]
    arrays: Arrays | None = None


class Names(NamedTuple):
    """How others call the arrays of a backbone.

    Attributes:
      whose: for people.
      example: a name in such a file.
      recognise: (arrays of a file, `init_prefix`) → the match of a file with these names, or None.
        Raises ValueError for a network of this family that the backbone does not have.
    """

    whose: str
    example: str
    recognise: Callable[[Arrays, str | None], Match | None]


def counts(arrays: Arrays, patterns: Iterable[str]) -> tuple[int, ...]:
    """How many names each pattern fits, from beginning to end."""
    return tuple(sum(bool(re.fullmatch(each, name)) for name in arrays) for each in patterns)


def only(prefixes: Sequence[str], wanted: str | None) -> str:
    """The prefix of the network that is wanted, of those in a file.

    Raises:
      ValueError: there are several and none of them is wanted, or another one is.
    """
    if wanted is None and len(prefixes) == 1:
        return prefixes[0]
    if wanted is not None and wanted in prefixes:
        return wanted
    listed = ', '.join(repr(prefix) for prefix in prefixes)
    raise ValueError(
        f'networks by the prefixes {listed}; choose one by --config.init_prefix={prefixes[0]}'
    )


def from_torch(array: np.ndarray) -> np.ndarray:
    """Kernels [out, in, h, w] to [h, w, in, out], matrices [out, in] to [in, out]."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def to_torch(array: np.ndarray) -> np.ndarray:
    """The inverse of `from_torch`."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


OWN = 'network of big_ssl'
_ENCODER = ('params/encoder/', 'batch_stats/encoder/')


def own(settings: dict[str, Any], usual: dict[str, Any] | None = None) -> Match:
    """The match of a network of these settings whose arrays are called as its variables are."""
    return Match(
        family=OWN,
        settings=settings,
        usual=usual or {},
        name_of='/'.join,
        layout=lambda path, array: array,
        of_encoder=lambda each: each.startswith(_ENCODER),
    )
