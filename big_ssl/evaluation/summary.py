"""All metrics of one split with their intervals, as one flat dictionary."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, Shaped

from big_ssl.evaluation import bootstrap, metrics

SPECIFICITY = 0.9

_Replicated = dict[str, tuple[Float[np.ndarray, ' r'], int]]  # metric -> values, number of cases


def summarise(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    probabilities: Float[np.ndarray, 'n k'],
    clusters: Shaped[np.ndarray, ' n'],
    classes: Sequence[str],
    *,
    multilabel: bool,
    thresholds: Mapping[str, float] | None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, float | int]:
    """Computes `METRIC`, `METRIC/low`, `METRIC/high` (95%, over clusters) and `METRIC/n`.

    One row is one case. `top1`, `top3` (with more than three classes) and `balanced_accuracy` need
    single labels; `auc_macro` and, for each CLASS against the rest, `auc/CLASS`,
    `sensitivity_at_90_specificity_on_this_split/CLASS` (read off this split's own ROC, hence
    optimistic) and `sensitivity_at_val_threshold/CLASS` with `specificity_at_val_threshold/CLASS`
    (threshold fixed on validation data) are there for both. `/n` counts the cases behind a metric:
    a class's positives for AUC and sensitivity, its negatives for specificity.

    A metric that the data do not define (class absent) is left out, and so are `/low` and `/high`
    where there is one cluster only.

    Args:
      labels: class indices [n], or 0, 1 and NaN (missing for that class alone) [n, k] if
        `multilabel`. Cases without any label are for the caller to drop.
      clusters: patient of each case.
      thresholds: for each class as from `thresholds_at_specificity` on validation data, or None.

    Raises:
      ValueError: shapes disagree, there are no cases, a label is out of range, or a probability is
        not finite.
    """
    probabilities = np.asarray(probabilities, np.float64)
    targets = _targets(labels, probabilities, classes, multilabel)
    if len(clusters) != len(labels):
        raise ValueError(f'{len(labels)} cases but {len(clusters)} clusters')
    patients = len(np.unique(clusters))
    drawn = bootstrap.cluster_weights(clusters, replicates if patients > 1 else 0, seed)
    weights = np.concatenate([np.ones((1, len(labels)), np.int32), drawn])
    values = {} if multilabel else _single_label(labels, probabilities, weights)
    values |= _one_vs_rest(targets, probabilities, weights, classes, thresholds or {})
    result: dict[str, float | int] = {'n_cases': len(labels), 'n_patients': patients}
    for name, (replicated, count) in values.items():
        point = float(replicated[0])
        if np.isnan(point):
            continue
        low, high = bootstrap.interval(point, replicated[1:])
        result |= {name: point, f'{name}/n': count}
        if not np.isnan(low):
            result |= {f'{name}/low': low, f'{name}/high': high}
    return result


def thresholds_at_specificity(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    probabilities: Float[np.ndarray, 'n k'],
    classes: Sequence[str],
    multilabel: bool,
    specificity: float = SPECIFICITY,
) -> dict[str, float]:
    """For each class, the smallest t such that `score >= t` has this specificity on these data.

    See `metrics.threshold_at_specificity` for ties. A class without negatives is left out.
    """
    probabilities = np.asarray(probabilities, np.float64)
    targets = _targets(labels, probabilities, classes, multilabel)
    found = {
        name: metrics.threshold_at_specificity(targets[:, i], probabilities[:, i], specificity)
        for i, name in enumerate(classes)
    }
    return {name: threshold for name, threshold in found.items() if not np.isnan(threshold)}


def _single_label(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> _Replicated:
    n, k = probabilities.shape
    values: _Replicated = {'top1': (metrics.top_k_accuracy(labels, probabilities, weights), n)}
    if k > 3:
        values['top3'] = (metrics.top_k_accuracy(labels, probabilities, weights, k=3), n)
    values['balanced_accuracy'] = (metrics.balanced_accuracy(labels, probabilities, weights), n)
    return values


def _one_vs_rest(
    targets: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray,
    classes: Sequence[str],
    thresholds: Mapping[str, float],
) -> _Replicated:
    per_class: _Replicated = {}
    aucs = []
    for i, name in enumerate(classes):
        data = targets[:, i], probabilities[:, i], weights
        positives, negatives = int((targets[:, i] == 1).sum()), int((targets[:, i] == 0).sum())
        aucs.append(metrics.auc(*data))
        per_class[f'auc/{name}'] = aucs[-1], positives
        per_class[f'sensitivity_at_90_specificity_on_this_split/{name}'] = (
            metrics.sensitivity_at_specificity(*data, SPECIFICITY),
            positives,
        )
        if name in thresholds:
            per_class[f'sensitivity_at_val_threshold/{name}'] = (
                metrics.sensitivity(*data, thresholds[name]),
                positives,
            )
            per_class[f'specificity_at_val_threshold/{name}'] = (
                metrics.specificity(*data, thresholds[name]),
                negatives,
            )
    labelled = int((~np.isnan(targets)).any(axis=1).sum())
    return {'auc_macro': (metrics.macro_auc(np.stack(aucs, axis=1)), labelled), **per_class}


def _targets(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], multilabel: bool
) -> Float[np.ndarray, 'n k']:
    """Checks the shapes and returns, for each class, 1, 0 or NaN (missing)."""
    n, k = len(labels), len(classes)
    if not n:
        raise ValueError('no cases to evaluate')
    if probabilities.shape != (n, k):
        raise ValueError(f'{n} labels and {k} classes but probabilities of {probabilities.shape}')
    if not np.isfinite(probabilities).all():
        raise ValueError('a probability is not finite')
    if not multilabel:
        if labels.shape != (n,) or labels.min() < 0 or labels.max() >= k:
            raise ValueError(f'single labels must be [n] class indices below {k}')
        return (labels[:, None] == np.arange(k)[None, :]).astype(np.float64)
    if labels.shape != (n, k) or not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError(f'multi-label labels must be [n, {k}] of 0, 1 or NaN')
    return labels.astype(np.float64)
