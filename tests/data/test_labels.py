import collections

import numpy as np
import pandas as pd
import pytest

from big_ssl.data.cases import case_names, codes
from big_ssl.data.labels import Task, case_label, encode, find_task, fraction, labelled
from big_ssl.data.sources import rows as sources
from big_ssl.errors import InputError
from tests.helpers import manifest_of


def table(folder, labels):
    """One image a label, each a case of its own."""
    return manifest_of(folder, [(f'{i}.png', '', '', x, 'train') for i, x in enumerate(labels)])


def test_classes_are_sorted(tmp_path):
    manifest = table(tmp_path, ['nevus', 'acne', 'ÄK', 'nevus', 'mole', 'Zoster'])
    task = find_task(manifest, np.arange(6), 'single')
    assert task == Task(('Zoster', 'acne', 'mole', 'nevus', 'ÄK'), multilabel=False)
    assert encode(manifest, np.arange(6), task).tolist() == [3, 1, 4, 3, 2, 0]
    assert encode(manifest, np.array([3, 0]), task).dtype == np.int32
    assert find_task(manifest, np.array([1, 3]), 'single').classes == ('acne', 'nevus')


def test_several_labels(tmp_path):
    manifest = table(tmp_path, ['edema|effusion', ' effusion | atelectasis ', '|', 'edema|edema'])
    task = find_task(manifest, np.arange(4), 'multi')
    assert task == Task(('atelectasis', 'edema', 'effusion'), multilabel=True)
    targets = encode(manifest, np.arange(4), task)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_labelled_rows(tmp_path):
    manifest = table(tmp_path, ['a', '', ' ', 'b'])
    assert labelled(manifest, np.arange(4)).tolist() == [0, 3]
    assert labelled(manifest, np.array([3, 1, 0])).tolist() == [3, 0]


def test_unseen_label_names_the_row(tmp_path):
    manifest = table(tmp_path, ['acne', 'nevus', 'nevus', 'scar'])
    task = find_task(manifest, np.arange(3), 'single')
    with pytest.raises(InputError) as caught:
        encode(manifest, np.arange(4), task)
    expected = f"{tmp_path / 'table.csv'} row 5: label 'scar' does not occur in the training labels"
    assert expected in str(caught.value) and '(acne, nevus)' in str(caught.value)
    with pytest.raises(InputError, match="row 5: label 'scar'"):
        encode(manifest, np.arange(4), Task(('acne', 'nevus'), multilabel=True))


@pytest.mark.parametrize(
    ('labels', 'kind'), [(['a', 'a'], 'single'), (['', ''], 'single'), (['', '|'], 'multi')]
)
def test_too_few_classes(tmp_path, labels, kind):
    with pytest.raises(InputError, match=r'table\.csv: the training labels have \d class'):
        find_task(table(tmp_path, labels), np.arange(2), kind)


def patients(folder, seed=0, count=300, shares=(0.6, 0.3, 0.09, 0.01)):
    """Patients with 1 to 4 images of one class each, in random order; the last class is rare."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(shares), count, p=shares)
    classes[:2] = len(shares) - 1
    rows = [
        (
            f'{patient}_{i}.png',
            f'c{patient}_{i // 2}',
            f'p{patient}',
            f'class{classes[patient]}',
            'train',
        )
        for patient in range(count)
        for i in range(rng.integers(1, 5))
    ]
    manifest = manifest_of(folder, [rows[i] for i in rng.permutation(len(rows))])
    return manifest, np.arange(len(rows))


def test_smaller_fractions_are_parts_of_larger_ones(tmp_path):
    manifest, rows = patients(tmp_path)
    task = find_task(manifest, rows, 'single')
    shares = [0.001, 0.01, 0.1, 0.2, 0.3, 0.5, 0.9, 0.999, 1.0]
    kept = [set(fraction(manifest, rows, share, 0, task).tolist()) for share in shares]
    for smaller, larger in zip(kept[:-1], kept[1:]):
        assert smaller <= larger
    assert kept[-1] == set(rows.tolist())


@pytest.mark.parametrize('share', [0.01, 0.1, 0.35, 0.8])
def test_fraction_of_whole_patients_of_every_class(tmp_path, share):
    manifest, rows = patients(tmp_path)
    task = find_task(manifest, rows, 'single')
    kept = fraction(manifest, rows, share, 0, task)
    assert (np.diff(kept) > 0).all()
    whole = collections.Counter(manifest.patient_id[rows])
    found = collections.Counter(manifest.patient_id[kept])
    assert all(found[name] == whole[name] for name in found)
    for name in task.classes:
        total, taken = (
            len(set(manifest.patient_id[some][manifest.label[some] == name]))
            for some in (rows, kept)
        )
        assert taken == max(1, round(share * total))


def test_another_seed_is_another_draw(tmp_path):
    manifest, rows = patients(tmp_path)
    task = find_task(manifest, rows, 'single')
    first, again, other = (
        set(manifest.patient_id[fraction(manifest, rows, 0.3, seed, task)]) for seed in (0, 0, 1)
    )
    assert first == again
    assert len(first & other) / len(first) < 0.45  # 0.3 of unrelated draws


def test_cases_where_no_patient_is_known(tmp_path):
    rows = [(f'{i}.png', f'c{i // 3}', '', 'ab'[i // 3 % 2], 'train') for i in range(120)]
    manifest = manifest_of(tmp_path, rows)
    task = find_task(manifest, np.arange(120), 'single')
    kept = fraction(manifest, np.arange(120), 0.5, 0, task)
    assert len(kept) == 60
    assert set(collections.Counter(manifest.case_id[kept]).values()) == {3}


def test_every_patient_is_as_likely(tmp_path):
    rows = [(f'{i}.png', '', f'p{i}', 'ab'[i % 2], 'train') for i in range(20)]
    manifest = manifest_of(tmp_path, rows)
    task = find_task(manifest, np.arange(20), 'single')
    times = np.zeros(20)
    for seed in range(500):
        times[fraction(manifest, np.arange(20), 0.3, seed, task)] += 1
    assert abs(times - 150).max() < 4.5 * np.sqrt(500 * 0.3 * 0.7)


def test_fraction_of_several_labels(tmp_path):
    """The healthy are many and a stratum of their own: class 0 still keeps a patient."""
    labels = ['|'] * 200 + ['atelectasis'] * 5 + ['edema'] * 20 + ['atelectasis|edema'] * 3
    rows = [(f'{i}.png', '', f'p{i}', label, 'train') for i, label in enumerate(labels)]
    manifest = manifest_of(tmp_path, rows)
    task = find_task(manifest, np.arange(len(rows)), 'multi')
    for seed in range(20):
        kept = fraction(manifest, np.arange(len(rows)), 0.05, seed, task)
        found = collections.Counter(manifest.label[kept])
        assert found['|'] == 10  # 5% of 200
        assert found['atelectasis'] + found['atelectasis|edema'] == 1  # at least one of 8
        assert found['edema'] == 1


def test_images_of_a_case_agree(tmp_path):
    rows = [
        ('0.png', 'B', '', 'x', 'train'),
        ('1.png', 'A', '', 'y', 'train'),
        ('2.png', 'B', '', 'x', 'train'),
        ('3.png', '', '', 'z', 'train'),
    ]
    manifest = manifest_of(tmp_path, rows)
    some = np.array([3, 2, 1, 0])
    first = case_label(manifest, some, codes(case_names(manifest, some)))
    assert some[first].tolist() == [3, 2, 1]


def test_images_of_a_case_disagree(tmp_path):
    rows = [
        ('0.png', 'B', '', 'x', 'train'),
        ('1.png', 'A', '', 'y', 'train'),
        ('2.png', 'B', '', 'y', 'train'),
    ]
    manifest = manifest_of(tmp_path, rows)
    with pytest.raises(InputError) as caught:
        case_label(manifest, np.arange(3), codes(case_names(manifest, np.arange(3))))
    message = str(caught.value)
    assert "row 4: label 'y', but 'x' for the same case in" in message
    assert 'row 2' in message and '--config.aggregate=none' in message


def test_a_class_that_always_comes_with_a_rarer_one_is_there(tmp_path):
    """Its patients are all in the strata of others, of which a small share may have none of it."""
    labels = ['a'] * 50 + ['b'] * 40 + ['a|c'] + ['b|c'] * 45
    rows = [(f'{i}.png', '', f'p{i}', label, 'train') for i, label in enumerate(labels)]
    manifest = manifest_of(tmp_path, rows)
    everything = np.arange(len(rows))
    task = Task(('a', 'b', 'c'), multilabel=True)
    for seed in range(30):
        kept = [
            set(fraction(manifest, everything, share, seed, task).tolist())
            for share in (0.01, 0.02, 0.05, 0.1, 0.3, 0.9)
        ]
        for some in kept:
            present = {part for i in some for part in labels[i].split('|')}
            assert present == {'a', 'b', 'c'}
        for smaller, larger in zip(kept[:-1], kept[1:]):
            assert smaller <= larger


@pytest.mark.parametrize(
    ('policy', 'value'), [('ignore', np.nan), ('zeros', 0), ('ones', 1), ('own_class', 2)]
)
def test_uncertain_labels(tmp_path, policy, value):
    manifest = table(tmp_path, ['edema?|effusion', 'edema', ' effusion ? ', 'edema|edema?'])
    task = find_task(manifest, np.arange(4), 'multi', uncertain=policy)
    assert task.classes == ('edema', 'effusion')
    assert task.outputs == (6 if policy == 'own_class' else 2)
    expected = [[value, 1], [1, 0], [0, value], [1, 0]]
    np.testing.assert_array_equal(encode(manifest, np.arange(4), task, policy), expected)


@pytest.mark.parametrize(
    ('policy', 'doubt', 'unnamed'),
    [
        ('ignore', np.nan, np.nan),
        ('zeros', 0, 0),
        ('ones', 1, 0),  # no findings are made of a doubtful "No Finding"
        ('own_class', 2, 2),
    ],
)
def test_an_uncertain_no_finding(tmp_path, policy, doubt, unnamed):
    expected = {  # edema, effusion, fracture
        'No Finding?': [unnamed, unnamed, unnamed],
        ' No Finding ? ': [unnamed, unnamed, unnamed],
        'No Finding': [0, 0, 0],
        'No Finding|No Finding?': [0, 0, 0],
        'No Finding?|No Finding': [0, 0, 0],
        'edema|No Finding?': [1, unnamed, unnamed],
        'No Finding?|edema': [1, unnamed, unnamed],
        'effusion?|No Finding?': [unnamed, doubt, unnamed],
        'edema|No Finding': [1, 0, 0],
        'effusion?|No Finding': [0, doubt, 0],
        '|': [0, 0, 0],
        'edema|effusion|fracture|No Finding?': [1, 1, 1],
    }
    manifest = table(tmp_path, list(expected))
    rows = np.arange(len(expected))
    task = find_task(manifest, rows, 'multi', 'No Finding', uncertain=policy)
    assert task.classes == ('edema', 'effusion', 'fracture')
    np.testing.assert_array_equal(encode(manifest, rows, task, policy), [*expected.values()])


def test_an_uncertain_no_finding_of_a_published_table(tmp_path):
    """CheXpert's columns: -1 is uncertain, and nothing is not mentioned."""
    columns = {
        'No Finding': ['-1.0', '1.0', '', '-1.0'],
        'Edema': ['', '', '-1.0', '1.0'],
        'Fracture': ['', '0.0', '', ''],
    }
    found = sources.findings(pd.DataFrame(columns), [*columns])
    assert found.tolist() == ['No Finding?', 'No Finding', 'Edema?', 'No Finding?|Edema']
    manifest = table(tmp_path, found)
    task = find_task(manifest, np.arange(4), 'multi', 'No Finding', classes=('Edema', 'Fracture'))
    expected = [[np.nan, np.nan], [0, 0], [np.nan, 0], [1, np.nan]]
    np.testing.assert_array_equal(encode(manifest, np.arange(4), task), expected)


def test_an_uncertain_label_that_is_no_negative_one_is_an_unknown_class(tmp_path):
    manifest = table(tmp_path, ['edema', 'No Finding?'])
    task = find_task(manifest, np.arange(1), 'multi')
    with pytest.raises(InputError, match="row 3: label 'No Finding' does not occur"):
        encode(manifest, np.arange(2), task)


def test_a_fraction_counts_no_uncertain_finding(tmp_path):
    """Rows of `No Finding?` are of no class: a stratum with those that have none."""
    labels = ['No Finding?'] * 40 + ['|'] * 40 + ['edema'] * 20
    manifest = table(tmp_path, labels)
    rows = np.arange(len(labels))
    task = find_task(manifest, rows, 'multi', 'No Finding')
    kept = collections.Counter(manifest.label[fraction(manifest, rows, 0.1, 0, task)])
    assert kept['edema'] == 2 and kept['|'] + kept['No Finding?'] == 8


@pytest.mark.parametrize(
    ('labels', 'message'),
    [
        (['nevus?', 'nevus'], "label 'nevus\\?' is of several classes or uncertain"),
        (['nevus|scar', 'nevus'], r"label 'nevus\|scar' is of several classes"),
        (['nevus', 'Nevus'], "labels 'Nevus' and 'nevus' differ in case only"),
    ],
)
def test_labels_that_are_hardly_meant(tmp_path, labels, message):
    manifest = table(tmp_path, labels)
    with pytest.raises(InputError, match=message):
        find_task(manifest, np.arange(2), 'single')
    assert find_task(manifest, np.arange(2), 'single', classes=tuple(labels)).classes


def test_a_fraction_of_nothing(tmp_path):
    manifest = table(tmp_path, ['nevus', 'scar'])
    task = find_task(manifest, np.arange(2), 'single')
    assert len(fraction(manifest, np.arange(0), 0.5, 0, task)) == 0


def test_given_classes_keep_their_order(tmp_path, caplog):
    manifest = table(tmp_path, ['b', 'a'])
    task = find_task(manifest, np.arange(2), 'single', classes=('c', 'b', 'a'))
    assert task.classes == ('c', 'b', 'a')
    assert encode(manifest, np.arange(2), task).tolist() == [1, 2]
    assert 'classes without a training label: c' in caplog.text
