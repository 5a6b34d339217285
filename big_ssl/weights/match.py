"""From the arrays of a file, by whatever names, to variables of a network of ours."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import traverse_util
from jaxtyping import Float

from big_ssl import models
from big_ssl.errors import InputError
from big_ssl.models.naming import Arrays, Match, Path, Shape


@dataclasses.dataclass(frozen=True)
class Taken:
    """What was made of a file.

    Attributes:
      variables: nested as the network's, of the parts that fit: `params`, `batch_stats`.
      loaded: name in the file, name of the variable, shape.
      initial: variables left at their initial value, with their shape and why.
      unused: names in the file that nothing asked for, with their shape.
    """

    variables: dict[str, Any]
    loaded: list[tuple[str, str, Shape]]
    initial: list[tuple[str, Shape, str]]
    unused: list[tuple[str, Shape]]

    def report(self) -> str:
        """Every name and shape, a line each, for a file beside the run."""
        lines = [f'loaded\t{name}\t{ours}\t{shape}' for name, ours, shape in self.loaded]
        lines += [f'initial\t{why}\t{ours}\t{shape}' for ours, shape, why in self.initial]
        lines += [f'unused\t{name}\t\t{shape}' for name, shape in self.unused]
        return '\n'.join(['what\tin the file\tin the network\tshape', *lines, ''])


def take(
    origin: str, arrays: Arrays, match: Match, variables: Mapping[str, Any], parts: Sequence[str]
) -> Taken:
    """Variables of the given first-level parts of a network, from the arrays of a file.

    A part other than the encoder that the file does not have, or has in another size, is left out.

    Args:
      origin: of the arrays, for messages.
      arrays: by the file's names.
      match: of those names.
      variables: of the network, arrays or their shapes, nested: `params` and `batch_stats`.
      parts: of the network: `encoder`, `projection`, `classifier`.

    Raises:
      InputError: the encoder's arrays are not those of the network, naming the first that differ;
        or an array that is taken is not of finite real numbers.
    """
    flat = {path: tuple(leaf.shape) for path, leaf in traverse_util.flatten_dict(variables).items()}
    ours = dict(sorted(flat.items(), key=lambda item: (item[0][0] != 'params', item[0])))
    found: dict[Path, np.ndarray] = {}
    loaded, initial = [], []
    for part in dict.fromkeys(path[1] for path in ours):
        asked = {path: shape for path, shape in ours.items() if path[1] == part}
        have = _named(arrays, match, asked) if part in parts else {}
        wrong = [] if part not in parts else _differences(arrays, match, asked, have)
        if wrong and part == 'encoder':
            raise InputError(
                f'init_from: {origin} holds another architecture: {"; ".join(wrong[:3])}'
                f'{f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""}'
            )
        if wrong or part not in parts:
            why = wrong[0] if wrong else 'not asked for'
            initial += [('/'.join(path[1:]), shape, why) for path, shape in asked.items()]
            continue
        for path, (name, array) in have.items():
            found[path] = _real(origin, name, array)
            loaded.append((name, '/'.join(path[1:]), asked[path]))
    used = {name for name, _, _ in loaded}
    unused = [(name, np.shape(array)) for name, array in sorted(arrays.items()) if name not in used]
    return Taken(traverse_util.unflatten_dict(found), loaded, initial, unused)


def _named(
    arrays: Arrays, match: Match, asked: Mapping[Path, Shape]
) -> dict[Path, tuple[str, np.ndarray]]:
    """Name and array, in our layout, of each variable that the file has."""
    names = {path: match.name_of(path) for path in asked}
    fit = models.load(match.settings['model.name']).fit
    return {
        path: (name, fit(path, match.layout(path, arrays[name]), asked[path]))
        for path, name in names.items()
        if name is not None and name in arrays
    }


def _differences(
    arrays: Arrays,
    match: Match,
    asked: Mapping[Path, Shape],
    have: Mapping[Path, tuple[str, np.ndarray]],
) -> list[str]:
    """What keeps a part from being taken, by name and shape."""
    wrong = []
    for path, shape in asked.items():
        ours = f'{"/".join(path[1:])} {shape}'
        if path not in have:
            name = match.name_of(path)
            wrong.append(f'{name or ours} is not there' + (f', here {ours}' if name else ''))
        elif have[path][1].shape != shape:
            name = have[path][0]
            wrong.append(f'{name} is {np.shape(arrays[name])}, here {ours}')
    if any(path[1] == 'encoder' for path in asked):
        used = {name for name, _ in have.values()}
        wrong += [
            f'{name} {np.shape(array)} has no place here'
            for name, array in sorted(arrays.items())
            if match.of_encoder(name) and name not in used
        ]
    return wrong


def _real(origin: str, name: str, array: np.ndarray) -> Float[np.ndarray, '...']:
    """As float32, which the values must be."""
    if array.dtype.kind != 'f' and array.dtype.name != 'bfloat16':
        raise InputError(f'init_from: {origin}: {name} is of {array.dtype}, not of real numbers')
    with np.errstate(over='ignore'):  # then it is not finite
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise InputError(f'init_from: {origin}: {name} holds values that are not finite')
    return array
