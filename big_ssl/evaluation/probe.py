"""Linear probe: logistic regression on frozen features."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from big_ssl.errors import InputError
from big_ssl.evaluation import class_frequencies, metrics

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
    train, validation, test = _standardised(features, validation_features, test_features)
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


def linear_probe_multilabel(
    features: Float[np.ndarray, 'n d'],
    targets: Float[np.ndarray, 'n classes'],
    validation_features: Float[np.ndarray, 'v d'],
    validation_targets: Float[np.ndarray, 'v classes'],
    test_features: Float[np.ndarray, 'm d'],
    *,
    classes: int,
) -> Float[np.ndarray, 'm classes']:
    """Probability of each class in the test rows, by one binary logistic regression a class.

    Targets are 1, 0 and NaN (missing: left out for that class). Features are standardised by all
    training rows. One of `STRENGTHS` serves all classes: that with the highest mean AUC over the
    classes that validation defines it for; of equal ones the strongest penalty. A class that is
    constant in training has its share there as probability, 0 without any label. Classes are not
    reweighted, so probabilities follow the classes' frequencies. Nothing is random.

    Warns if a fit did not converge.

    Raises:
      InputError: no class has both labels among the training rows, or none in validation.
    """
    fitted = [i for i in range(classes) if {0, 1} <= set(targets[:, i])]
    if not fitted:
        raise InputError('linear probe: no class has positive and negative training labels')
    judged = [i for i in range(classes) if {0, 1} <= set(validation_targets[:, i])]
    if not judged:
        raise InputError(
            'linear probe: no class has positive and negative validation labels to choose the '
            'penalty by; add a split'
        )
    train, validation, test = _standardised(features, validation_features, test_features)
    models = {i: LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True) for i in fitted}
    share = np.nan_to_num(class_frequencies.shares(targets, classes))
    once = np.ones((1, len(validation)))
    best, probabilities = -1.0, np.zeros((len(test), classes))
    for strength in STRENGTHS:
        for i, model in models.items():
            known = ~np.isnan(targets[:, i])
            _fit(model.set_params(C=strength), train[known], targets[known, i])
        scores = _predict_binary(models, validation, share)
        reached = np.mean(
            [metrics.auc(validation_targets[:, i], scores[:, i], once)[0] for i in judged]
        )
        if reached > best:
            best, probabilities = float(reached), _predict_binary(models, test, share)
    return probabilities


def _standardised(
    features: Float[np.ndarray, 'n d'], *others: Float[np.ndarray, '_ d']
) -> Sequence[np.ndarray]:
    """All in float64, by the mean and deviation of the first."""
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1
    return [
        (np.asarray(rows, np.float64) - mean[None, :]) / scale[None, :]
        for rows in (features, *others)
    ]


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


def _predict_binary(
    models: Mapping[int, LogisticRegression], features: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Of the classes that have a model its probability, of others their share."""
    probabilities = np.tile(share, (len(features), 1))
    for i, model in models.items():
        probabilities[:, i] = model.predict_proba(features)[:, 1]
    return probabilities
