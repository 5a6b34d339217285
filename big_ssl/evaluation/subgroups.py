"""Figures of the groups that a further column of the table makes: sex, age, site."""

import itertools
import re
from collections.abc import Sequence

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

    A column whose known values are all numbers, more than ten different ones, is cut into bands at
    the ascending edges: '<20', '20-39', ..., '>=80'. A band is named by whole numbers, and 39.5
    belongs to '20-39' (completed years). Not-a-number is then 'not known' too. Of values joined by
    '|', in which the images of a case differ, the first number counts; words make a group ('f|m').
    """
    values = [str(value).strip() for value in column]
    parts = [[part.strip() for part in value.split(_JOINED_BY)] for value in values]
    if _numbers([*itertools.chain(*parts)]) is not None:
        values = [first for first, *_ in parts]
    numbers = _numbers(values)
    if numbers is None or not edges or len(set(numbers[~np.isnan(numbers)])) <= _MAX_NUMBERS:
        return np.array([value or NOT_KNOWN for value in values])
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
    replicates: int = 1000,
    seed: int = 0,
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
            replicates=replicates,
            seed=seed,
            min_positives=min_positives,
        )
        kept = ('n_cases', 'n_patients', *FIGURES)
        result[name] = {key: found[key] for key in found if key.split('/')[0] in kept}
    return result


def _numbers(values: Sequence[str]) -> Float[np.ndarray, ' n'] | None:
    """NaN for ''; None if a value is no number."""
    try:
        numbers = np.array([float(value or 'nan') for value in values])
    except ValueError:
        return None
    return np.where(np.isfinite(numbers), numbers, np.nan)
