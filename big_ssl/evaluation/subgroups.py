"""Figures of the groups that a further column of the table makes: sex, age, site."""

import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Num, Shaped

from big_ssl.evaluation import class_frequencies, summary

NOT_KNOWN = 'not known'
EDGES = (20, 40, 60, 80)  # years
FIGURES = ('top1', 'balanced_accuracy', 'auc_macro')
_JOINED_BY = '|'
_MAX_NUMBERS = 10  # a column of more distinct numbers is cut into bands
_NUMBER_OR_BAND = re.compile(r'(<|>=)?(-?\d+(?:\.\d+)?)(?:-\d+)?')


def groups(
    column: Shaped[np.ndarray, ' n'] | Sequence[str], edges: Sequence[int] = EDGES
) -> Shaped[np.ndarray, ' n']:
    """Name of the group of each case; '' is 'not known'.

    The values in which the images of a case differ are joined by '|'; an image without one does not
    count ('f|' is 'f'). Of numbers the first counts, and those that are not finite ('nan') are as
    if they were not there; words make a group of their own ('f|m').

    A column whose known values are all numbers, more than ten different ones, is cut into bands at
    the ascending edges: '<20', '20-39', ..., '>=80'. A band is named by whole numbers, and 39.5
    belongs to '20-39' (completed years).
    """
    parts = [
        [part for part in map(str.strip, str(value).split(_JOINED_BY)) if part] for value in column
    ]
    if are_numbers := _are_numbers(itertools.chain(*parts)):
        parts = [[part for part in some if np.isfinite(float(part))][:1] for some in parts]
    values = [_JOINED_BY.join(some) for some in parts]
    if not are_numbers or not edges or len(set(map(float, filter(None, values)))) <= _MAX_NUMBERS:
        return np.array([value or NOT_KNOWN for value in values])
    numbers = np.array([float(value or 'nan') for value in values])
    inner = [f'{low}-{high - 1}' for low, high in zip(edges, edges[1:])]
    bands = np.array([f'<{edges[0]}', *inner, f'>={edges[-1]}'])
    names = bands[np.searchsorted(edges, numbers, side='right').clip(max=len(edges))]
    return np.where(np.isnan(numbers), NOT_KNOWN, names)


def ordered(names: Shaped[np.ndarray, ' n']) -> list[str]:
    """The groups that occur: numbers and bands ascending, other names by alphabet, not known."""

    def position(name: str) -> tuple:
        found = _NUMBER_OR_BAND.fullmatch(name)
        if found:
            return 0, float(found[2]), found[1] != '<', ''
        return 1 + (name == NOT_KNOWN), 0.0, False, name

    return sorted(set(map(str, names)), key=position)


def summarise_groups(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    probabilities: Float[np.ndarray, 'n k'],
    clusters: Shaped[np.ndarray, ' n'],
    classes: Sequence[str],
    names: Shaped[np.ndarray, ' n'],
    *,
    multilabel: bool,
    min_positives: int = class_frequencies.MIN_POSITIVES,
) -> dict[str, dict[str, float | int]]:
    """`FIGURES` of each group with their intervals, `n_cases` and `n_patients`, in order.

    As `summary.summarise` of the group's cases alone: `auc_macro` is over the classes with
    `min_positives` within the group (`auc_macro/classes` of them), so groups may differ in them.

    Args:
      names: group of each case, as from `groups`.
    """
    result = {}
    for name in ordered(names):
        chosen = names == name
        found = summary.summarise(
            labels[chosen],
            probabilities[chosen],
            clusters[chosen],
            classes,
            multilabel=multilabel,
            thresholds=None,
            min_positives=min_positives,
        )
        kept = ('n_cases', 'n_patients', *FIGURES)
        result[name] = {key: found[key] for key in found if key.split('/')[0] in kept}
    return result


def _are_numbers(values: Iterable[str]) -> bool:
    try:
        return bool([float(value) for value in values])
    except ValueError:
        return False
