"""One method on one split: its figures, by the functions of `evaluation`."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from big_ssl.data.labels import Task
from big_ssl.evaluation import calibration, class_frequencies, comparison
from big_ssl.evaluation.comparison import Metric
from big_ssl.studies.results import Group, Judged

Groups = Mapping[str, Sequence[Group]]


def metrics_of(task: Task, targets: np.ndarray) -> dict[str, Metric]:
    """The figures of one split; the macro AUC is over classes with enough positives there."""
    found: dict[str, Metric] = {}
    if not task.multilabel:
        found |= {'top1': comparison.top1, 'balanced_accuracy': comparison.balanced_accuracy}
    classes = class_frequencies.counted_classes(targets, len(task.classes))
    if classes:
        found['auc_macro'] = comparison.macro_auc(classes)
    return found


def value_of(model: Judged, metric: Metric) -> float:
    once = np.ones((1, len(model.targets)), np.int32)
    return float(metric.values(model.targets, model.probabilities, once)[0])


def calibration_of(model: Judged) -> dict[tuple[str, str], float]:
    """`calibration_error` and `brier_score`, each by class: '' for all classes together; where a
    case may have several labels, each class with known cases."""
    if not model.task.multilabel:
        both = model.targets, model.probabilities
        return {
            ('calibration_error', ''): calibration.expected_calibration_error(*both),
            ('brier_score', ''): calibration.brier_score(*both),
        }
    found = {}
    for i, name in enumerate(model.task.classes):
        of_class = positive(model, i), model.probabilities[:, i]
        if not np.isnan(of_class[0]).all():
            found['calibration_error', name] = calibration.binary_calibration_error(*of_class)
            found['brier_score', name] = calibration.binary_brier_score(*of_class)
    return found


def interval(group: Group, metric: Metric) -> comparison.Interval:
    return comparison.method_interval(
        group.models[0].targets,
        group.scores,
        codes(group.models[0].patients),
        metric,
        pretraining=group.pretraining,
    )


def row_of(found: comparison.Interval) -> dict[str, float]:
    """`value`, `low` and `high`, as the tables have them."""
    return {'value': found.value, 'low': found.low, 'high': found.high}


def difference(a: Group, b: Group, metric: Metric) -> comparison.Difference:
    """a minus b; two shares of the labels begin with the same pre-trainings."""
    same_method = (a.method, a.network) == (b.method, b.network)
    return comparison.paired_difference(
        a.models[0].targets,
        a.scores,
        b.scores,
        codes(a.models[0].patients),
        metric,
        pretraining_a=a.pretraining,
        pretraining_b=b.pretraining,
        same_pretrainings=same_method and set(a.pretraining) == set(b.pretraining),
    )


def positive(model: Judged, i: int) -> np.ndarray:
    """1, 0 or NaN for each case: whether it is of class i."""
    return model.targets[:, i] if model.task.multilabel else (model.targets == i).astype(float)


def codes(names: np.ndarray) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def whole(groups: Groups) -> Iterator[tuple[str, Group]]:
    """Those with the largest share of the labels."""
    return ((split, group) for split, group in each(groups) if group.whole)


def each(groups: Groups) -> Iterator[tuple[str, Group]]:
    return ((split, group) for split, some in groups.items() for group in some)
