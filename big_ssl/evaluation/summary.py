"""All metrics of one split with their intervals, as one flat dictionary."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, Shaped

from big_ssl.evaluation import bootstrap, class_frequencies, intervals, metrics

SPECIFICITY = 0.9


@dataclasses.dataclass(frozen=True)
class _Replicated:
    values: Float[np.ndarray, ' r']  # of the data themselves, then of each replicate
    cases: int
    support: intervals.Support


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
    min_positives: int = class_frequencies.MIN_POSITIVES,
) -> dict[str, float | int]:
    """Computes `METRIC`, `METRIC/low`, `METRIC/high` (95%, over clusters) and `METRIC/n`.

    One row is one case. `top1`, `top3` (with more than three classes) and `balanced_accuracy` need
    single labels. For both kinds of labels there are `auc_macro`, the mean over the classes with
    `min_positives` (`auc_macro/classes` says how many); `auc_macro_all`, the mean over every class
    that has an AUC; and, for each CLASS against the rest, `auc/CLASS`,
    `sensitivity_at_90_specificity_on_this_split/CLASS` (read off this split's own ROC, hence
    optimistic) and `sensitivity_at_val_threshold/CLASS` with `specificity_at_val_threshold/CLASS`
    (threshold fixed on validation data). `/n` counts the cases behind a metric: a class's positives
    for AUC and sensitivity, its negatives for specificity.

    A metric that the data do not define (class absent) is left out, and so are `/low` and `/high`
    where too few patients stand behind it (`intervals.MIN_CLUSTERS`, in every class for a mean).

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
    values = {} if multilabel else _single_label(labels, probabilities, clusters, weights)
    aucs = _aucs(targets, probabilities, clusters, weights)
    averaged = class_frequencies.counted_classes(targets, len(classes), min_positives)
    values |= _macro(targets, {'auc_macro': averaged, 'auc_macro_all': list(aucs)}, aucs)
    values |= {f'auc/{classes[i]}': auc for i, auc in aucs.items()}
    values |= _at_thresholds(targets, probabilities, clusters, weights, classes, thresholds or {})
    counts = {'n_cases': len(labels), 'n_patients': patients}
    if averaged:
        counts['auc_macro/classes'] = len(averaged)
    return counts | _with_intervals(values)


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


def _with_intervals(values: Mapping[str, _Replicated]) -> dict[str, float | int]:
    result: dict[str, float | int] = {}
    for name, found in values.items():
        point = float(found.values[0])
        if np.isnan(point):
            continue
        result |= {name: point, f'{name}/n': found.cases}
        low, high = intervals.interval(point, found.values[1:], found.support)
        if not np.isnan(low):
            result |= {f'{name}/low': low, f'{name}/high': high}
    return result


def _single_label(
    labels: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, weights: np.ndarray
) -> dict[str, _Replicated]:
    n, k = probabilities.shape
    every = intervals.support(clusters, [np.ones(n, bool)])
    present = [labels == label for label in np.unique(labels)]
    by_class = intervals.support(clusters, present, terms=len(present))
    values = {'top1': _Replicated(metrics.top_k_accuracy(labels, probabilities, weights), n, every)}
    if k > 3:
        top3 = metrics.top_k_accuracy(labels, probabilities, weights, k=3)
        values['top3'] = _Replicated(top3, n, every)
    balanced = metrics.balanced_accuracy(labels, probabilities, weights)
    values['balanced_accuracy'] = _Replicated(balanced, n, by_class)
    return values


def _aucs(
    targets: np.ndarray, probabilities: np.ndarray, clusters: np.ndarray, weights: np.ndarray
) -> dict[int, _Replicated]:
    """AUC of every class that has one, by class number."""
    values = {}
    for i, (target, score) in enumerate(zip(targets.T, probabilities.T)):
        positive, negative = target == 1, target == 0
        if positive.any() and negative.any():
            values[i] = _Replicated(
                metrics.auc(target, score, weights),
                int(positive.sum()),
                intervals.support(clusters, [positive, negative]),
            )
    return values


def _macro(
    targets: np.ndarray, averages: Mapping[str, Sequence[int]], aucs: Mapping[int, _Replicated]
) -> dict[str, _Replicated]:
    """Means of the AUCs of the classes given for each name; a mean of no class is left out."""
    labelled = int((~np.isnan(targets)).any(axis=1).sum())
    values = {}
    for name, chosen in averages.items():
        if chosen:
            groups = [m for i in chosen for m in aucs[i].support.clusters]
            values[name] = _Replicated(
                metrics.macro_auc(np.stack([aucs[i].values for i in chosen], axis=1)),
                labelled,
                intervals.Support(tuple(groups), terms=len(chosen)),
            )
    return values


def _at_thresholds(
    targets: np.ndarray,
    probabilities: np.ndarray,
    clusters: np.ndarray,
    weights: np.ndarray,
    classes: Sequence[str],
    thresholds: Mapping[str, float],
) -> dict[str, _Replicated]:
    values = {}
    for i, name in enumerate(classes):
        data = targets[:, i], probabilities[:, i], weights
        positive, negative = targets[:, i] == 1, targets[:, i] == 0
        positives, negatives = int(positive.sum()), int(negative.sum())
        values[f'sensitivity_at_90_specificity_on_this_split/{name}'] = _Replicated(
            metrics.sensitivity_at_specificity(*data, SPECIFICITY),
            positives,
            intervals.support(clusters, [positive, negative]),
        )
        if name in thresholds:
            values[f'sensitivity_at_val_threshold/{name}'] = _Replicated(
                metrics.sensitivity(*data, thresholds[name]),
                positives,
                intervals.support(clusters, [positive]),
            )
            values[f'specificity_at_val_threshold/{name}'] = _Replicated(
                metrics.specificity(*data, thresholds[name]),
                negatives,
                intervals.support(clusters, [negative]),
            )
    return values


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
    elif labels.shape != (n, k) or not (np.isnan(labels) | (labels == 0) | (labels == 1)).all():
        raise ValueError(f'multi-label labels must be [n, {k}] of 0, 1 or NaN')
    return class_frequencies.targets_of(labels, k)
