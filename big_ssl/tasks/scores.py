"""The scores of one split, between the network that gives them and the figures made of them."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Scores:
    """One split, a row for each case (for each image with aggregate=none).

    Attributes:
      split: its name.
      rows: of the manifest, all images.
      case: [images] which case an image belongs to.
      first: [cases] position among `rows` of the case's first image.
      targets: [cases] class numbers, or [cases, k] for a multi-label task.
      probabilities: [cases, k].
      patients: [cases] names of the patients, or of the cases where none is known.
    """

    split: str
    rows: Int[np.ndarray, ' images']
    case: Int[np.ndarray, ' images']
    first: Int[np.ndarray, ' cases']
    targets: np.ndarray
    probabilities: Float[np.ndarray, 'cases k']
    patients: np.ndarray
