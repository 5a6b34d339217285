import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from etils import epath

from big_ssl.data.labels import Task
from big_ssl.tasks import outputs
from big_ssl.tasks.scores import Scores
from tests import helpers

HEADER = (*helpers.HEADER, 'site', 'age', 'label_source')
TASK = Task(('benign', 'malignant'), multilabel=False)


def manifest_of(folder, header=HEADER):
    """Three cases; the images of the first are not beside each other and differ in their site."""
    return helpers.manifest_of(
        folder,
        [
            ('0.png', 'A', 'Q', 'benign', 'train', 'arm', '50', 'x'),
            ('1.png', 'B', 'P', 'malignant', 'test', 'leg', '51', 'x'),
            ('2.png', 'C', '', 'benign', 'test', 'arm', '', 'y'),
            ('3.png', 'B', 'P', 'malignant', 'test', 'arm', '51', 'x'),
            ('4.png', 'B', 'P', 'malignant', 'test', 'leg', '51', 'x'),
            ('5.png', '', '', 'benign', 'test', 'nose, left', '70', 'z'),
        ][: 6 if header == HEADER else None],
        header,
    )


def scores_of(by_case: bool = True) -> Scores:
    rows = np.array([1, 2, 3, 4, 5])
    case = np.array([0, 1, 0, 0, 2]) if by_case else np.arange(5)
    first = np.array([0, 1, 4]) if by_case else np.arange(5)
    malignant = np.array([0.9, 0.25, 0.5]) if by_case else np.linspace(0, 1, 5)
    return Scores(
        split='test',
        rows=rows,
        case=case,
        first=first,
        targets=np.array([1, 0, 0]) if by_case else np.array([1, 0, 1, 1, 0]),
        probabilities=np.stack([1 - malignant, malignant], axis=1),
        patients=np.array(['patient P', 'case C', 'image 5'])[: len(first)],
    )


def test_a_row_for_each_case(tmp_path):
    found = outputs.predictions(manifest_of(tmp_path), scores_of(), TASK)
    expected = pd.DataFrame(
        {
            'split': ['test', 'test', 'test'],
            'case_id': ['B', 'C', ''],
            'patient_id': ['P', '', ''],
            'label': ['malignant', 'benign', 'benign'],
            'benign': [1 - 0.9, 0.75, 0.5],
            'malignant': [0.9, 0.25, 0.5],
            'site': ['leg|arm', 'arm', 'nose, left'],
            'age': ['51', '', '70'],
            'label_source': ['x', 'y', 'z'],
        }
    )
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_a_row_for_each_image(tmp_path):
    found = outputs.predictions(manifest_of(tmp_path), scores_of(by_case=False), TASK)
    assert found['case_id'].tolist() == ['B', 'C', 'B', 'B', '']
    assert found['site'].tolist() == ['leg', 'arm', 'arm', 'leg', 'nose, left']
    np.testing.assert_array_equal(found['malignant'], np.linspace(0, 1, 5))


def test_further_columns_with_our_names_are_renamed(tmp_path):
    header = (*helpers.HEADER, 'benign', 'malignant', 'other')
    found = outputs.predictions(manifest_of(tmp_path, header), scores_of(), TASK)
    assert found.columns.tolist() == [
        'split', 'case_id', 'patient_id', 'label', 'benign', 'malignant',
        'manifest_benign', 'manifest_malignant', 'other',
    ]  # fmt: skip
    assert found['malignant'].tolist() == [0.9, 0.25, 0.5]
    assert found['manifest_benign'].tolist() == ['leg|arm', 'arm', 'nose, left']


def test_classes_with_names_of_our_columns_are_renamed(tmp_path):
    task = Task(('label', 'split'), multilabel=False)
    found = outputs.predictions(manifest_of(tmp_path), scores_of(), task)
    assert found['label'].tolist() == ['malignant', 'benign', 'benign']
    assert found['split'].tolist() == ['test'] * 3
    assert found['class_split'].tolist() == [0.9, 0.25, 0.5]


def test_a_manifest_without_further_columns(tmp_path):
    rows = [(f'{i}.png', case, '', 'benign', 'test') for i, case in enumerate('ABCBBD')]
    found = outputs.predictions(helpers.manifest_of(tmp_path, rows), scores_of(), TASK)
    assert found.shape == (3, 6)


def test_files_of_an_evaluation(tmp_path):
    """Predictions come back from the CSV as they went in; the result is plain JSON."""
    manifest, workdir = manifest_of(tmp_path), epath.Path(tmp_path)
    areas = {'test/auc/benign': 1.0, 'test/auc/malignant': 1.0}
    result = {'test/top1': 0.5, 'test/top1/n': 3, 'trained_on/synthetic': True} | areas
    result |= {'task/unit': 'cases'}
    outputs.write_evaluation(workdir, manifest, [scores_of(), scores_of()], TASK, result)
    table = pd.read_csv(tmp_path / 'predictions.csv', dtype={'age': str}, keep_default_na=False)
    assert len(table) == 6
    np.testing.assert_array_equal(table['malignant'], [0.9, 0.25, 0.5] * 2)
    assert table['site'].tolist() == ['leg|arm', 'arm', 'nose, left'] * 2
    written = json.loads((tmp_path / 'result.json').read_text())
    assert written.pop('big_ssl/version')
    assert written == result
    assert 'SYNTHETIC' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('multilabel', [False, True])
def test_calibration_is_beside_the_curves(tmp_path, multilabel):
    result = {'test/top1': 0.5, 'test/top1/n': 3, 'task/unit': 'cases'}
    places = ('/benign', '/malignant') if multilabel else ('',)
    for number, place in enumerate(places):
        result[f'test/calibration_error{place}'] = 0.111 + number
        result[f'test/brier_score{place}'] = 0.222 + number
    scores = scores_of()
    if multilabel:
        scores = dataclasses.replace(scores, targets=np.eye(2)[scores.targets])
    task = dataclasses.replace(TASK, multilabel=multilabel)
    outputs.write_evaluation(epath.Path(tmp_path), manifest_of(tmp_path), [scores], task, result)
    section = (tmp_path / 'report.html').read_text().split('Split test</h2>')[1]
    table = section.split('Calibration</caption>')[1].split('</table>')[0]
    cells = re.findall(r'<t[dh]\b[^>]*>([^<]*)', table)
    if multilabel:
        assert cells == ['class', 'ECE', 'Brier score', 'benign', '0.111', '0.222',
                         'malignant', '1.111', '1.222']  # fmt: skip
    else:
        assert cells == ['ECE', 'Brier score', '0.111', '0.222']


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    manifest, before = manifest_of(tmp_path), list(tmp_path.iterdir())
    monkeypatch.setattr('jax.process_index', lambda: 1)
    outputs.write_evaluation(epath.Path(tmp_path), manifest, [scores_of()], TASK, {})
    outputs.write_pretraining(epath.Path(tmp_path), None, {})
    assert list(tmp_path.iterdir()) == before
