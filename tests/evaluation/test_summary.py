import numpy as np
import pytest
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
        replicates=settings.pop('replicates', 50),
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
        'auc/melanoma': aucs[2],
        'auc/melanoma/n': (labels == 2).sum(),
        'sensitivity_at_val_threshold/acne': (probabilities[labels == 0, 0] >= 0.3).mean(),
        'specificity_at_val_threshold/acne': (probabilities[labels != 0, 0] < 0.3).mean(),
        'sensitivity_at_val_threshold/acne/n': (labels == 0).sum(),
        'specificity_at_val_threshold/acne/n': (labels != 0).sum(),
    }
    assert {key: result[key] for key in expected} == pytest.approx(expected)
    named = 3 + 1 + 4 * 4
    assert len(result) == 2 + 4 * named
    for key in ('top1', 'auc_macro', 'auc/nevus'):
        assert result[f'{key}/low'] < result[key] < result[f'{key}/high']
    assert all(type(value) in (int, float) for value in result.values())


def test_interval_of_top1_is_that_of_resampled_patients():
    labels, probabilities, clusters = single_label_data(n=300)
    result = summarise(labels, probabilities, clusters, replicates=2000)
    correct = (probabilities.argmax(axis=1) == labels).reshape(100, 3).mean(axis=1)
    random = np.random.default_rng(11)
    means = correct[random.integers(100, size=(4000, 100))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert (result['top1/low'], result['top1/high']) == pytest.approx((low, high), abs=0.012)


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
        replicates=5,
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
