import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from big_ssl.evaluation import summary

pytestmark = pytest.mark.filterwarnings('error')

CLASSES = ('acne', 'eczema', 'melanoma', 'nevus')


def single_label_data(seed=0, n=90):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, n)
    logits = random.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities, np.arange(n) // 3


def summarise(labels, probabilities, clusters, multilabel=False, thresholds=None, **settings):
    return summary.summarise(
        labels,
        probabilities,
        clusters,
        CLASSES,
        multilabel=multilabel,
        thresholds=thresholds,
        **settings,
    )


def test_single_label_values_are_sklearns():
    labels, probabilities, clusters = single_label_data()
    result = summarise(labels, probabilities, clusters, thresholds=dict.fromkeys(CLASSES, 0.3))
    predicted = probabilities.argmax(axis=1)
    aucs = sklearn.metrics.roc_auc_score(
        labels, probabilities, multi_class='ovr', average=None, labels=range(4)
    )
    expected = {
        'n_cases': 90,
        'n_patients': 30,
        'top1': sklearn.metrics.accuracy_score(labels, predicted),
        'top1/n': 90,
        'top3': sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=3),
        'balanced_accuracy': sklearn.metrics.balanced_accuracy_score(labels, predicted),
        'auc_macro': np.mean(aucs),
        'auc_macro/classes': 4,
        'auc_macro_all': np.mean(aucs),
        'auc/melanoma': aucs[2],
        'auc/melanoma/n': (labels == 2).sum(),
        'sensitivity_at_val_threshold/acne': (probabilities[labels == 0, 0] >= 0.3).mean(),
        'specificity_at_val_threshold/acne': (probabilities[labels != 0, 0] < 0.3).mean(),
        'sensitivity_at_val_threshold/acne/n': (labels == 0).sum(),
        'specificity_at_val_threshold/acne/n': (labels != 0).sum(),
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    named = 3 + 2 + 4 * 4
    assert len(result) == 2 + 1 + 4 * named
    for key in ('top1', 'auc_macro', 'auc/nevus'):
        assert result[f'{key}/low'] < result[key] < result[f'{key}/high']
    assert all(type(value) in (int, float) for value in result.values())


def test_interval_of_top1_is_wilsons_of_the_patients_deviation():
    """100 patients of three cases each: the variance of the mean is in closed form."""
    labels, probabilities, clusters = single_label_data(n=300)
    result = summarise(labels, probabilities, clusters)
    correct = (probabilities.argmax(axis=1) == labels).reshape(100, 3).mean(axis=1)
    p, variance = correct.mean(), correct.var(ddof=1) / 100
    n = p * (1 - p) / variance
    fourth = ((correct - p) ** 4).sum() / ((correct - p) ** 2).sum() ** 2
    t = scipy.stats.t.ppf(0.975, min(99, 2 / (fourth - 1 / 100)))
    roots = np.roots([1 + t**2 / n, -(2 * p + t**2 / n), p**2])  # |p - x| = t sqrt(x (1 - x) / n)
    found = result['top1/low'], result['top1/high']
    assert found == pytest.approx(tuple(sorted(roots)))


def test_five_of_five_caught_has_an_interval_with_width():
    labels = np.repeat([1, 0], [5, 60])
    probabilities = np.eye(2)[labels]
    result = summary.summarise(
        labels,
        probabilities,
        np.arange(65),
        ('benign', 'malignant'),
        multilabel=False,
        thresholds={'malignant': 0.5},
    )
    name = 'sensitivity_at_val_threshold/malignant'
    t = scipy.stats.t.ppf(0.975, 4)
    assert result[name] == result[f'{name}/high'] == 1
    assert result[f'{name}/low'] == pytest.approx(5 / (5 + t**2))


def test_rare_classes_are_shown_but_not_averaged():
    """Ten, nine, two and many positives: the second and third are left out of the macro AUC."""
    labels = np.repeat([0, 1, 2, 3], [10, 9, 2, 40])
    probabilities = np.random.default_rng(5).dirichlet(np.ones(4), 61)
    clusters = np.arange(61)
    aucs = [sklearn.metrics.roc_auc_score(labels == i, probabilities[:, i]) for i in range(4)]
    result = summarise(labels, probabilities, clusters)
    assert result['auc_macro'] == pytest.approx((aucs[0] + aucs[3]) / 2)
    assert result['auc_macro/classes'] == 2 and result['auc_macro/n'] == 61
    assert result['auc_macro_all'] == pytest.approx(np.mean(aucs))
    assert [result[f'auc/{name}'] for name in CLASSES] == pytest.approx(aucs)
    # Two patients are too few for an interval, of the class itself and of what contains it.
    without = {name for name in result if f'{name}/n' in result and f'{name}/low' not in result}
    rare = ('auc/melanoma', 'sensitivity_at_90_specificity_on_this_split/melanoma')
    assert without == {'auc_macro_all', 'balanced_accuracy', *rare}
    every = summarise(labels, probabilities, clusters, min_positives=1)
    assert every['auc_macro/classes'] == 4
    assert every['auc_macro'] == every['auc_macro_all'] == result['auc_macro_all']


def test_a_macro_auc_of_no_class_is_left_out():
    _, probabilities, clusters = single_label_data(n=36)
    result = summarise(np.arange(36) % 4, probabilities, clusters)
    assert not [name for name in result if name.split('/')[0] == 'auc_macro']
    aucs = [result[f'auc/{name}'] for name in CLASSES]
    assert result['auc_macro_all'] == pytest.approx(np.mean(aucs))


def test_rare_findings_are_not_averaged_either():
    random = np.random.default_rng(6)
    labels = np.zeros((80, 4))
    for i, positives in enumerate((10, 9, 30, 80)):
        labels[random.choice(80, positives, replace=False), i] = 1
    labels[np.flatnonzero(labels[:, 2])[:21], 2] = np.nan  # nine of thirty are left
    probabilities = random.random((80, 4))
    result = summarise(labels, probabilities, np.arange(80), True)
    assert result['auc_macro'] == result['auc/acne'] and result['auc_macro/classes'] == 1
    known = ~np.isnan(labels[:, 2])
    aucs = [
        sklearn.metrics.roc_auc_score(labels[rows, i], probabilities[rows, i])
        for i, rows in ((0, slice(None)), (1, slice(None)), (2, known))
    ]
    assert result['auc_macro_all'] == pytest.approx(np.mean(aucs))
    assert 'auc/nevus' not in result  # no negatives


def test_multi_label_leaves_missing_entries_out_of_their_class_only():
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, (80, 4)).astype(np.float64)
    labels[:30, 1] = np.nan
    labels[:, 3] = 0  # a class without positives
    probabilities = random.random((80, 4))
    thresholds = {'eczema': 0.5}
    result = summarise(labels, probabilities, np.arange(80), True, thresholds)
    expected = [
        sklearn.metrics.roc_auc_score(labels[rows, i], probabilities[rows, i])
        for i, rows in ((0, slice(None)), (1, slice(30, None)), (2, slice(None)))
    ]
    assert result['auc/eczema'] == pytest.approx(expected[1])
    assert result['auc/eczema/n'] == np.nansum(labels[:, 1])
    assert result['specificity_at_val_threshold/eczema/n'] == (labels[:, 1] == 0).sum()
    assert result['auc_macro'] == pytest.approx(np.mean(expected))
    assert result['auc_macro/n'] == 80
    assert not [key for key in result if 'nevus' in key or key.startswith(('top', 'balanced'))]


def test_top3_needs_more_than_three_classes():
    labels, probabilities, clusters = single_label_data()
    result = summary.summarise(
        labels % 3,
        probabilities[:, :3],
        clusters,
        CLASSES[:3],
        multilabel=False,
        thresholds=None,
    )
    assert 'top3' not in result and 'top1' in result
    assert not [key for key in result if 'val_threshold' in key]


def test_one_patient_gives_no_interval():
    labels, probabilities, _ = single_label_data()
    result = summarise(labels, probabilities, np.zeros(90))
    assert result['n_patients'] == 1 and 'top1' in result and 'top1/low' not in result


def test_thresholds_keep_the_specificity_on_the_data_they_come_from():
    labels, probabilities, clusters = single_label_data(n=200)
    thresholds = summary.thresholds_at_specificity(labels, probabilities, CLASSES, False)
    result = summarise(labels, probabilities, clusters, thresholds=thresholds)
    for i, name in enumerate(CLASSES):
        negatives = np.sort(probabilities[labels != i, i])
        expected = negatives[int(np.ceil(0.9 * len(negatives) - 1e-9)) - 1]
        assert expected < thresholds[name] < expected + 1e-12
        assert 0.9 <= result[f'specificity_at_val_threshold/{name}'] < 0.9 + 1 / len(negatives)
        assert (
            result[f'sensitivity_at_val_threshold/{name}']
            == result[f'sensitivity_at_90_specificity_on_this_split/{name}']
        )


def test_a_class_without_negatives_has_no_threshold():
    labels = np.array([[1, 0, 0, 1], [1, 1, np.nan, 0]])
    thresholds = summary.thresholds_at_specificity(labels, np.full((2, 4), 0.5), CLASSES, True)
    assert list(thresholds) == ['eczema', 'melanoma', 'nevus']


@pytest.mark.parametrize(
    ('labels', 'probabilities', 'message'),
    [
        (np.zeros(0, int), np.zeros((0, 4)), 'no cases'),
        (np.zeros(2, int), np.zeros((2, 3)), 'probabilities of'),
        (np.zeros(2, int), np.full((2, 4), np.nan), 'not finite'),
        (np.array([0, 4]), np.zeros((2, 4)), 'indices below 4'),
        (np.array([0, -1]), np.zeros((2, 4)), 'indices below 4'),
    ],
)
def test_bad_input_is_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        summarise(labels, probabilities, np.zeros(len(labels)))
    if len(labels):
        with pytest.raises(ValueError, match='clusters'):
            summarise(np.zeros(2, int), np.zeros((2, 4)), np.zeros(3))


@pytest.mark.parametrize('multilabel', [False, True])
def test_figures_without_intervals_are_sklearns(multilabel):
    labels, probabilities, _ = single_label_data()
    targets = np.eye(4)[labels]
    if multilabel:
        targets[:30, 1] = np.nan
        targets[:, 3] = 0  # has no AUC
    found = summary.without_intervals(
        targets if multilabel else labels, probabilities, CLASSES, multilabel=multilabel
    )
    known = [(~np.isnan(targets[:, i]), i) for i in range(3 if multilabel else 4)]
    aucs = [sklearn.metrics.roc_auc_score(targets[k, i], probabilities[k, i]) for k, i in known]
    expected = {'auc_macro_all': np.mean(aucs)}
    if not multilabel:
        predicted = probabilities.argmax(axis=1)
        expected['top1'] = (predicted == labels).mean()
        balanced = sklearn.metrics.balanced_accuracy_score(labels, predicted)
        expected['balanced_accuracy'] = balanced
    assert found == pytest.approx(expected)
