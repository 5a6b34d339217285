import numpy as np
import pytest

from big_ssl.data.cases import (
    case_codes,
    case_names,
    codes,
    patient_codes,
    patient_names,
    units_of_cases,
    units_of_images,
)
from tests.helpers import manifest_of

ROWS = [  # image, case, patient
    ('0.png', 'A', 'p', '', 'train'),
    ('1.png', 'B', 'q', '', 'train'),
    ('2.png', 'A', 'p', '', 'train'),
    ('3.png', '', 'p', '', 'train'),
    ('4.png', 'C', '', '', 'train'),
    ('5.png', '', '', '', 'train'),
    ('6.png', 'C', '', '', 'train'),
    ('7.png', '', '', '', 'train'),
    ('8.png', 'D', 'q', '', 'train'),
    ('9.png', 'A', 'p', '', ''),
]
TRAIN = np.arange(9)


@pytest.mark.parametrize('seed', range(5))
def test_codes_are_those_of_the_names(tmp_path, seed):
    manifest, random = manifest_of(tmp_path, ROWS), np.random.default_rng(seed)
    rows = random.permutation(len(ROWS))[: 10 - seed]
    names = case_names(manifest, rows), patient_names(manifest, rows)
    assert case_codes(manifest, rows, by_case=True).tolist() == codes(names[0]).tolist()
    assert patient_codes(manifest, rows).tolist() == codes(names[1]).tolist()
    assert case_codes(manifest, rows, by_case=False).tolist() == list(range(len(rows)))


def as_sets(units):
    parts = np.split(units.images, units.offsets[1:-1])
    return [set(part.tolist()) for part in parts]


def test_codes_in_order_of_appearance():
    assert codes(np.array(['x', 'a', 'x', 'b', 'a'], dtype=object)).tolist() == [0, 1, 0, 2, 1]


def test_units_of_cases(tmp_path):
    units = units_of_cases(manifest_of(tmp_path, ROWS), TRAIN)
    assert as_sets(units) == [{0, 2}, {1}, {3}, {4, 6}, {5}, {7}, {8}]
    assert len(units) == 7 and units.offsets[0] == 0 and units.offsets[-1] == 9
    a, b, p_alone, c, lonely, other, d = units.groups.tolist()
    assert a == p_alone and b == d
    assert len({a, b, c, lonely, other}) == 5


def test_units_of_images(tmp_path):
    units = units_of_images(manifest_of(tmp_path, ROWS), TRAIN)
    assert as_sets(units) == [{row} for row in range(9)]
    patient = {0: 'p', 2: 'p', 3: 'p', 1: 'q', 8: 'q', 4: 'C', 6: 'C', 5: '5', 7: '7'}
    for i in range(9):
        for j in range(9):
            assert (units.groups[i] == units.groups[j]) == (patient[i] == patient[j])


def test_a_part_of_the_rows(tmp_path):
    manifest = manifest_of(tmp_path, ROWS)
    units = units_of_cases(manifest, np.array([8, 6, 2, 0]))
    assert as_sets(units) == [{8}, {6}, {2, 0}]
    assert as_sets(units_of_images(manifest, np.array([8, 6]))) == [{8}, {6}]


def test_a_name_means_one_thing(tmp_path):
    """A case, a patient and an image may have the same name and stay three."""
    rows = [
        ('x', '', '', '', 'train'),
        ('a.png', 'x', '', '', 'train'),
        ('b.png', '', 'x', '', 'train'),
        ('c.png', str(tmp_path / 'x'), '', '', 'train'),
        ('d.png', f'image {tmp_path / "x"}', '', '', 'train'),
        ('e.png', 'patient x', '', '', 'train'),
    ]
    manifest = manifest_of(tmp_path, rows)
    assert len(set(case_names(manifest, np.arange(6)))) == 6
    assert len(set(patient_names(manifest, np.arange(6)))) == 6
    assert len(set(units_of_images(manifest, np.arange(6)).groups)) == 6
