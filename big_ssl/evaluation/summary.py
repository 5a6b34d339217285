"""All metrics of one split with their intervals, as one flat dictionary."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num, Shaped

from big_ssl.evaluation import class_frequencies, influence, intervals, metrics
from big_ssl.evaluation.influence import Figure

SPECIFICITY = 0.9


def summarise(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    probabilities: Float[np.ndarray, 'n k'],
    clusters: Shaped[np.ndarray, ' n'],
    classes: Sequence[str],
    *,
    multilabel: bool,
    thresholds: Mapping[str, float] | None,
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
    where too few patients stand behind it (`Figure.is_enough`, in every class for a mean).

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
    patients = np.unique(clusters, return_inverse=True)[1]
    values = {} if multilabel else _single_label(labels, probabilities, patients)
    aucs = _aucs(targets, probabilities, patients)
    averaged = class_frequencies.counted_classes(targets, len(classes), min_positives)
    averages = {'auc_macro': averaged, 'auc_macro_all': tuple(aucs)}
    values |= _macro(targets, probabilities, patients, averages, exclusive=not multilabel)
    values |= {f'auc/{classes[i]}': found for i, found in aucs.items()}
    values |= _at_thresholds(targets, probabilities, patients, classes, thresholds or {})
    counts = {'n_cases': len(labels), 'n_patients': int(patients.max()) + 1}
    if averaged:
        counts['auc_macro/classes'] = len(averaged)
    return counts | _with_intervals(values)


def without_intervals(
    labels: Num[np.ndarray, ' n'] | Num[np.ndarray, 'n k'],
    probabilities: Float[np.ndarray, 'n k'],
    classes: Sequence[str],
    *,
    multilabel: bool,
) -> dict[str, float]:
    """`top1`, `balanced_accuracy` and `auc_macro_all` of `summarise`, if the data define them.

    For looks while training: nothing else is computed. Arguments and errors as of `summarise`.
    """
    probabilities = np.asarray(probabilities, np.float64)
    targets = _targets(labels, probabilities, classes, multilabel)
    once = np.ones((1, len(labels)))
    values = np.array(
        [metrics.auc(target, score, once)[0] for target, score in zip(targets.T, probabilities.T)]
    )
    found: dict[str, float] = {}
    if not multilabel:
        found['top1'] = float(metrics.top_k_accuracy(labels, probabilities, once)[0])
        found['balanced_accuracy'] = float(
            metrics.balanced_accuracy(labels, probabilities, once)[0]
        )
    if (defined := values[~np.isnan(values)]).size:
        found['auc_macro_all'] = float(defined.mean())
    return found


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


_Counted = tuple[Figure, int]  # with the cases behind it


def _with_intervals(values: Mapping[str, _Counted]) -> dict[str, float | int]:
    result: dict[str, float | int] = {}
    for name, (figure, cases) in values.items():
        if np.isnan(figure.value):
            continue
        result |= {name: figure.value, f'{name}/n': cases}
        if figure.is_enough:
            low, high = intervals.interval(figure)
            result |= {f'{name}/low': low, f'{name}/high': high}
    return result


def _single_label(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> dict[str, _Counted]:
    n, k = probabilities.shape
    found = {'top1': influence.top_k_accuracy(labels, probabilities, patients)}
    if k > 3:
        found['top3'] = influence.top_k_accuracy(labels, probabilities, patients, k=3)
    found['balanced_accuracy'] = influence.balanced_accuracy(labels, probabilities, patients)
    return {name: (figure, n) for name, figure in found.items()}


def _aucs(
    targets: np.ndarray, probabilities: np.ndarray, patients: np.ndarray
) -> dict[int, _Counted]:
    """AUC of every class that has one, by class number."""
    found = {
        i: (influence.auc(target, score, patients), int((target == 1).sum()))
        for i, (target, score) in enumerate(zip(targets.T, probabilities.T))
    }
    return {i: counted for i, counted in found.items() if not np.isnan(counted[0].value)}


def _macro(
    targets: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    averages: Mapping[str, Sequence[int]],
    exclusive: bool,
) -> dict[str, _Counted]:
    """Means of the AUCs of the classes given for each name; a mean of no class is left out."""
    labelled = int((~np.isnan(targets)).any(axis=1).sum())
    found = {}
    for name, chosen in averages.items():
        some = list(chosen)
        figure = influence.macro_auc(
            targets[:, some], probabilities[:, some], patients, exclusive=exclusive
        )
        found[name] = figure, labelled
    return found


def _at_thresholds(
    targets: np.ndarray,
    probabilities: np.ndarray,
    patients: np.ndarray,
    classes: Sequence[str],
    thresholds: Mapping[str, float],
) -> dict[str, _Counted]:
    values: dict[str, _Counted] = {}
    for i, name in enumerate(classes):
        data = targets[:, i], probabilities[:, i], patients
        positives, negatives = int((targets[:, i] == 1).sum()), int((targets[:, i] == 0).sum())
        values[f'sensitivity_at_90_specificity_on_this_split/{name}'] = (
            influence.sensitivity_at_specificity(*data, SPECIFICITY),
            positives,
        )
        if name in thresholds:
            values[f'sensitivity_at_val_threshold/{name}'] = (
                influence.sensitivity(*data, thresholds[name]),
                positives,
            )
            values[f'specificity_at_val_threshold/{name}'] = (
                influence.specificity(*data, thresholds[name]),
                negatives,
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
