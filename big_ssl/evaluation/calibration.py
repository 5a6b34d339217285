"""Calibration: does a confidence of 80% mean that 80% are right? And the Brier score, which asks
besides whether the probabilities tell the cases apart."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Num


@dataclasses.dataclass(frozen=True)
class Reliability:
    """A point for each bin of confidence; means are NaN where a bin is empty.

    Of one class against the rest, the confidence is the probability of the class, and the accuracy
    the share of its cases.
    """

    confidence: Float[np.ndarray, ' bins']  # mean of the bin's cases
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
    return _binned(confidence, np.asarray(probabilities).argmax(axis=1) == labels, bins)


def expected_calibration_error(
    labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k'], bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their cases; 0 to 1.

    Guo et al. 2017, equation 3. Raises ValueError without cases.
    """
    return _mean_gap(reliability(labels, probabilities, bins))


def binary_reliability(
    labels: Num[np.ndarray, ' n'], probabilities: Float[np.ndarray, ' n'], bins: int = 15
) -> Reliability:
    """Mean predicted probability of one class and its observed share, in the bins of `reliability`.

    The reliability diagram of Niculescu-Mizil & Caruana 2005, Predicting Good Probabilities with
    Supervised Learning. Labels are 1 and 0; a case with any other (NaN: missing) is left out.
    """
    known = (labels == 1) | (labels == 0)
    return _binned(np.asarray(probabilities, np.float64)[known], labels[known] == 1, bins)


def binary_calibration_error(
    labels: Num[np.ndarray, ' n'], probabilities: Float[np.ndarray, ' n'], bins: int = 15
) -> float:
    """Mean gap between probability and share over the bins of `binary_reliability`; 0 to 1.

    Raises ValueError without labelled cases.
    """
    return _mean_gap(binary_reliability(labels, probabilities, bins))


def brier_score(labels: Int[np.ndarray, ' n'], probabilities: Float[np.ndarray, 'n k']) -> float:
    """Squared differences of probability and outcome (1 for the true class, 0 for every other).

    Brier 1950, Verification of Forecasts Expressed in Terms of Probability, equation 2: their sum
    over the classes, mean over the cases; 0 (certain and right) to 2 (certain and wrong). Of two
    classes it is twice scikit-learn's `brier_score_loss`, and twice `binary_brier_score`.

    Raises ValueError without cases.
    """
    if not len(labels):
        raise ValueError('no cases to score')
    outcome = np.eye(np.shape(probabilities)[1])[labels]
    squares = (np.asarray(probabilities, np.float64) - outcome) ** 2
    return float(squares.sum(axis=1).mean())


def binary_brier_score(
    labels: Num[np.ndarray, ' n'], probabilities: Float[np.ndarray, ' n']
) -> float:
    """Mean squared difference of the probability of one class and its outcome; 0 to 1.

    scikit-learn's `brier_score_loss`. Labels are 1 and 0; a case with any other (NaN: missing) is
    left out. Raises ValueError without labelled cases.
    """
    known = (labels == 1) | (labels == 0)
    if not known.any():
        raise ValueError('no cases to score')
    squares = (np.asarray(probabilities, np.float64) - labels) ** 2
    return float(squares[known].mean())


def _binned(
    confidence: Float[np.ndarray, ' n'], correct: Bool[np.ndarray, ' n'], bins: int
) -> Reliability:
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    bin_of_case = np.searchsorted(inner_edges, confidence, side='left')
    count = np.bincount(bin_of_case, minlength=bins)
    per_case = np.where(count > 0, count, np.nan)
    return Reliability(
        confidence=np.bincount(bin_of_case, confidence, bins) / per_case,
        accuracy=np.bincount(bin_of_case, correct, bins) / per_case,
        count=count,
    )


def _mean_gap(curve: Reliability) -> float:
    if not curve.count.sum():
        raise ValueError('no cases to calibrate')
    gaps = np.nan_to_num(np.abs(curve.accuracy - curve.confidence))
    return float((curve.count * gaps).sum() / curve.count.sum())
