"""Calibration: does a confidence of 80% mean that 80% are right?"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Reliability:
    """A point for each bin of confidence; means are NaN where a bin is empty."""

    confidence: Float[np.ndarray, ' bins']  # mean confidence of the bin's cases
    accuracy: Float[np.ndarray, ' bins']  # share of them that are right
    count: Int[np.ndarray, ' bins']


def reliability(
    labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k'], bins: int = 15
) -> Reliability:
    """Confidence and accuracy of the predicted class in equal-width bins (i/bins, (i+1)/bins].

    Guo et al. 2017, On Calibration of Modern Neural Networks, section 2; 15 bins as in its
    section 5. The confidence is the highest probability; of equal ones the first is predicted.
    """
    confidence = np.asarray(probabilities, np.float64).max(axis=1)
    correct = np.asarray(probabilities).argmax(axis=1) == labels
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    bin_of_case = np.searchsorted(inner_edges, confidence, side='left')
    count = np.bincount(bin_of_case, minlength=bins)
    per_case = np.where(count > 0, count, np.nan)
    return Reliability(
        confidence=np.bincount(bin_of_case, confidence, bins) / per_case,
        accuracy=np.bincount(bin_of_case, correct, bins) / per_case,
        count=count,
    )


def expected_calibration_error(
    labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k'], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their cases; 0 to 1.

    Guo et al. 2017, equation 3. Raises ValueError without cases.
    """
    if not len(labels):
        raise ValueError('no cases to calibrate')
    curve = reliability(labels, probabilities, bins)
    gaps = np.nan_to_num(np.abs(curve.accuracy - curve.confidence))
    return float((curve.count * gaps).sum() / curve.count.sum())
