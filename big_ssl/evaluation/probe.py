"""Linear probe: logistic regression on frozen features."""

import warnings

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from big_ssl.errors import InputError
from big_ssl.evaluation import metrics

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # inverse L2 penalties C, strongest penalty first
_MAX_ITERATIONS = 3000


def linear_probe(
    features: Float[np.ndarray, 'n d'],
    labels: Int[np.ndarray, ' n'],
    validation_features: Float[np.ndarray, 'v d'],
    validation_labels: Int[np.ndarray, ' v'],
    test_features: Float[np.ndarray, 'm d'],
    *,
    classes: int,
    balanced: bool = True,
) -> Float[np.ndarray, 'm classes']:
    """Class probabilities of the test rows, by multinomial logistic regression with an L2 penalty.

    Features are standardised by the training rows. The penalty is the one of `STRENGTHS` with the
    best validation score, balanced accuracy if `balanced` (classes then weigh the same in the fit
    too) and top-1 otherwise; of equal ones the strongest penalty. A class without training rows
    has probability 0. Nothing is random.

    Warns if a fit did not converge.

    Raises:
      InputError: fewer than two classes among the training labels, or no validation rows.
    """
    if len(np.unique(labels)) < 2:
        raise InputError('linear probe: training labels of one class only; label a second class')
    if not len(validation_labels):
        raise InputError('linear probe: no validation rows to choose the penalty by; add a split')
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1
    train, validation, test = (
        (np.asarray(rows, np.float64) - mean[None, :]) / scale[None, :]
        for rows in (features, validation_features, test_features)
    )
    once = np.ones((1, len(validation_labels)))
    score = metrics.balanced_accuracy if balanced else metrics.top_k_accuracy
    model = LogisticRegression(
        class_weight='balanced' if balanced else None, max_iter=_MAX_ITERATIONS, warm_start=True
    )
    best, probabilities = -1.0, np.zeros((len(test), classes))
    for strength in STRENGTHS:
        _fit(model.set_params(C=strength), train, labels)
        reached = score(validation_labels, _predict(model, validation, classes), once)[0]
        if reached > best:
            best, probabilities = reached, _predict(model, test, classes)
    return probabilities


def _fit(model: LogisticRegression, features: np.ndarray, labels: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)
        model.fit(features, labels)
    if model.n_iter_.max() >= _MAX_ITERATIONS:
        warnings.warn(
            f'linear probe: C={model.C:g} did not converge in {_MAX_ITERATIONS} iterations',
            RuntimeWarning,
            stacklevel=3,
        )


def _predict(model: LogisticRegression, features: np.ndarray, classes: int) -> np.ndarray:
    probabilities = np.zeros((len(features), classes))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
