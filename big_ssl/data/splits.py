"""Train, val and test by patient, where a table does not say."""

import collections
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Shaped, UInt64

from big_ssl.data import permutation

NAMES = ('train', 'val', 'test')
SHARES = (0.7, 0.1, 0.2)
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def unit_names(
    image: Shaped[np.ndarray, ' n'],
    case: Shaped[np.ndarray, ' n'],
    patient: Shaped[np.ndarray, ' n'],
) -> Shaped[np.ndarray, ' n']:
    """A name for what goes together: the patient, else the case, else the image; '' is unknown."""
    unit = np.where(case != '', 'case ' + case, 'image ' + image)
    return np.where(patient != '', 'patient ' + patient, unit)


def seeded_split(
    units: Shaped[np.ndarray, ' n'], seed: int, shares: Sequence[float] = SHARES
) -> Shaped[np.ndarray, ' n']:
    """`train`, `val` or `test` for each unit name, drawn from the name and the seed alone.

    Equal names go together, and a name stays where it is whatever rows come, go or move.

    Args:
      units: strings, a patient, case or image each.
      seed: another seed is another split.
      shares: of train, val and test.
    """
    unique, inverse = np.unique(units, return_inverse=True)
    place = permutation.uniforms(seed, _words(unique.tolist()))
    return _names(place, shares)[inverse]


def stratified_split(
    units: Shaped[np.ndarray, ' n'],
    labels: Sequence[Sequence[str]],
    seed: int,
    shares: Sequence[float] = SHARES,
    known: Mapping[str, str] | None = None,
) -> Shaped[np.ndarray, ' n']:
    """`train`, `val` or `test` for each unit name, in equal shares for each label.

    A unit belongs to the stratum of the label in its first row that fewest units before it have;
    the i-th unit of a stratum stands at frac(start + i φ) of the shares, φ the golden ratio (Weyl's
    sequence), which keeps every run of units near them. Nothing depends on later rows, so rows that
    are appended move nobody; what no rule can do is to stratify and move nobody when rows are
    inserted or sorted anew: for that there is `known`.

    Args:
      units: strings, a patient, case or image each.
      labels: of each row; none is a stratum too.
      seed: another seed is another split.
      shares: of train, val and test.
      known: units whose split is known already.
    """
    known = known or {}
    first: dict[str, int] = {}
    for row, name in enumerate(units.tolist()):
        first.setdefault(name, row)
    seen: collections.Counter[str] = collections.Counter()
    rank: collections.Counter[str] = collections.Counter()
    strata, ranks = [], []
    for row in first.values():
        stratum = min(labels[row], key=lambda label: (seen[label], label), default='')
        seen.update(labels[row])
        strata.append(stratum)
        ranks.append(rank[stratum])
        rank[stratum] += 1
    start = permutation.uniforms(seed, _words(strata))
    names = _names((start + _GOLDEN_RATIO * np.array(ranks)) % 1, shares)
    of_unit = {name: known.get(name, split) for name, split in zip(first, names.tolist())}
    return np.array([of_unit[name] for name in units.tolist()], object)


def _words(names: Sequence[str]) -> UInt64[np.ndarray, ' n']:
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.array([int.from_bytes(digest, 'big') for digest in digests], np.uint64)


def _names(place: np.ndarray, shares: Sequence[float]) -> Shaped[np.ndarray, ' n']:
    train, val = shares[0], shares[0] + shares[1]
    return np.select([place < train, place < val], NAMES[:2], NAMES[2]).astype(object)
