"""One method on one split: its figures, by the functions of `evaluation`."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from big_ssl.data.labels import Task
from big_ssl.evaluation import calibration, class_frequencies, comparison
from big_ssl.evaluation.comparison import Metric
from big_ssl.studies.results import Group, Judged

Groups = Mapping[str, Sequence[Group]]
REPLICATES, SEED = 1000, 0


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
    return float(metric(model.targets, model.probabilities, once)[0])


def calibration_errors(model: Judged) -> dict[str, float]:
    """Of the predicted class, named ''; of each class with known cases where there are several."""
    if not model.task.multilabel:
        return {'': calibration.expected_calibration_error(model.targets, model.probabilities)}
    known = [i for i in range(len(model.task.classes)) if (~np.isnan(positive(model, i))).any()]
    return {
        model.task.classes[i]: calibration.binary_calibration_error(
            positive(model, i), model.probabilities[:, i]
        )
        for i in known
    }


def interval(group: Group, metric: Metric) -> comparison.Interval:
    return comparison.method_interval(
        group.models[0].targets,
        group.scores,
        codes(group.models[0].patients),
        metric,
        pretraining=group.pretraining,
        replicates=REPLICATES,
        seed=SEED,
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
        replicates=REPLICATES,
        seed=SEED,
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
