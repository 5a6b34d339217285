import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from big_ssl.config import defaults
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.tasks import judge
from big_ssl.tasks.judge import Split
from big_ssl.tasks.scores import Scores
from tests import helpers

TASK = Task(('x', 'y'), multilabel=False)


@pytest.fixture
def manifest(tmp_path):
    rows = [
        ('0.png', 'A', '', 'x', 'test'),
        ('1.png', 'A', '', 'y', 'test'),
        ('2.png', 'B', '', 'z', 'shift'),
        ('3.png', 'C', '', 'y', 'val'),
    ]
    return helpers.manifest_of(tmp_path, rows)


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        ([], 'no row of split test has a label'),
        ([0, 1], 'for the same case'),
        ([2], "label 'z' does not occur in the training labels"),
    ],
)
def test_labels_that_cannot_be_judged(manifest, rows, message):
    with pytest.raises(InputError, match=message):
        judge.check_labels(defaults(), manifest, Split('test', np.array(rows, int)), TASK)


def test_labels_that_can_be_judged(manifest):
    config = defaults()
    judge.check_labels(config, manifest, Split('val', np.array([0, 3])), TASK)
    config.aggregate = 'none'
    judge.check_labels(config, manifest, Split('test', np.array([0, 1, 3])), TASK)


def test_images_without_the_label_of_their_case(tmp_path, caplog):
    rows = [
        ('0.png', 'A', '', 'x', 'test'),
        ('1.png', 'A', '', '', 'test'),
        ('2.png', 'B', '', '', 'test'),
        ('3.png', '', '', '', 'test'),
    ]
    manifest = helpers.manifest_of(tmp_path, rows)
    (split,) = judge.splits_of(defaults(), manifest, ['test'])
    judge.check_labels(defaults(), manifest, split, TASK)
    assert '1 images without a label belong to cases that have one' in caplog.text


@pytest.mark.parametrize(('policy', 'kept'), [('alike', 10), ('full', 20)])
def test_validation_is_reduced_like_the_labels_unless_told_otherwise(tmp_path, policy, kept):
    rows = [
        (f'{split}{i}.png', '', f'{split}{i}', 'xy'[i % 2], split)
        for split in ('val', 'test')
        for i in range(20)
    ]
    manifest = helpers.manifest_of(tmp_path, rows)
    config = defaults()
    config.label_fraction, config.labels.val = 0.5, policy
    val, test = judge.splits_of(config, manifest, ['val', 'test'], TASK)
    assert (val.name, len(val.rows), len(test.rows)) == ('val', kept, 20)
    (whole,) = judge.splits_of(config, manifest, ['val'])
    assert len(whole.rows) == 20


def scores_of(targets, probabilities):
    numbers = np.arange(len(targets))
    patients = np.array([f'P{i}' for i in numbers])
    return Scores('test', numbers, numbers, numbers, targets, probabilities, patients)


def test_calibration_of_one_label_a_case(manifest):
    """Confidences 0.8, 0.6 and 0.7 in bins of their own, the last one wrong."""
    scores = scores_of(np.array([0, 1, 0]), np.array([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]))
    found = judge.figures(defaults(), manifest, scores, TASK, None)
    assert found['test/calibration_error'] == pytest.approx((0.2 + 0.4 + 0.7) / 3)
    theirs = brier_score_loss([0, 1, 0], [0.2, 0.6, 0.7])
    assert found['test/brier_score'] == pytest.approx(2 * theirs)


def test_calibration_of_each_of_several_labels(manifest):
    """A class without a known case has no figures."""
    task = Task(('x', 'y', 'z'), multilabel=True)
    missing = np.nan
    targets = np.array([[1, 0, missing], [0, 1, missing], [1, missing, missing]])
    probabilities = np.array([[0.8, 0.3, 0.5], [0.4, 0.9, 0.5], [0.5, 0.1, 0.5]])
    found = judge.figures(defaults(), manifest, scores_of(targets, probabilities), task, None)
    brier = {name: value for name, value in found.items() if 'brier' in name}
    assert brier == pytest.approx(
        {
            'test/brier_score/x': brier_score_loss([1, 0, 1], [0.8, 0.4, 0.5]),
            'test/brier_score/y': brier_score_loss([0, 1], [0.3, 0.9]),
        }
    )
    assert {name.replace('brier_score', 'calibration_error') for name in brier} <= set(found)
