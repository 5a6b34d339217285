"""From the rows of a manifest to what the sampler draws: units of one or more images each."""

import dataclasses

import numpy as np
import pandas as pd
from jaxtyping import Int

from big_ssl.data.integers import narrow
from big_ssl.data.manifest import Manifest
from big_ssl.data.splits import unit_names
from big_ssl.data.text import Text


@dataclasses.dataclass(frozen=True)
class Units:
    """What one training example is drawn from: a case of images, or a single image.

    Attributes:
      offsets: [units + 1]; unit u owns `images[offsets[u]:offsets[u + 1]]`.
      images: rows of the manifest, units one after the other.
      groups: [units]; equal numbers are one patient (case where no patient is known, image where
        neither is), whose images are not each other's negatives.
    """

    offsets: Int[np.ndarray, ' units_plus_1']
    images: Int[np.ndarray, ' images']
    groups: Int[np.ndarray, ' units']

    def __len__(self) -> int:
        return len(self.groups)


def case_names(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> np.ndarray:
    """A name for the case of each row; an image without a case id is a case of its own."""
    image, case = manifest.image_path[rows], manifest.case_id[rows]
    return unit_names(image, case, np.full(len(rows), '', object))


def patient_names(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> np.ndarray:
    """A name for the patient of each row; where none is known, the case's."""
    columns = (manifest.image_path, manifest.case_id, manifest.patient_id)
    return unit_names(*(column[rows] for column in columns))


def codes(names: np.ndarray) -> Int[np.ndarray, ' n']:
    """0, 1, 2 … for the distinct names in order of their first appearance."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(name, len(seen)) for name in names.tolist()], np.int64)


def case_codes(manifest: Manifest, rows: Int[np.ndarray, ' n'], by_case: bool) -> np.ndarray:
    """Number of the case of each row by first appearance; each its own if not `by_case`."""
    return _numbered(rows, manifest.case_id) if by_case else np.arange(len(rows))


def patient_codes(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Int[np.ndarray, ' n']:
    """Number of the patient (where none is known, of the case) of each row by first appearance."""
    return _numbered(rows, manifest.patient_id, manifest.case_id)


def _numbered(rows: Int[np.ndarray, ' n'], *ids: Text) -> Int[np.ndarray, ' n']:
    """`codes` of what each row belongs to: the first of its `ids` that is known, or itself."""
    owner, taken = np.asarray(rows, np.int64), len(ids[0])
    for column in reversed(ids):
        code = column.codes()[rows]
        owner = np.where((column != '')[rows], taken + code, owner)
        taken += len(column)
    return pd.factorize(owner)[0]


def units_of_cases(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Units:
    """One unit a case, with all its images among `rows`."""
    case = case_codes(manifest, rows, by_case=True)
    order = np.argsort(case, kind='stable')
    starts = np.searchsorted(case[order], np.arange(case.max() + 2))
    groups = patient_codes(manifest, rows)[order[starts[:-1]]]
    return Units(offsets=narrow(starts), images=narrow(rows[order]), groups=narrow(groups))


def units_of_images(manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Units:
    """One unit an image."""
    return Units(
        offsets=narrow(np.arange(len(rows) + 1)),
        images=narrow(rows),
        groups=narrow(patient_codes(manifest, rows)),
    )
