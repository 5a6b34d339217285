import numpy as np

from big_ssl.evaluation import class_frequencies

NAN = float('nan')
LABELS = np.array([0, 2, 2, 0, 2])
TARGETS = np.array([[1, 0, NAN], [1, NAN, NAN], [0, 1, NAN], [1, 0, NAN]])


def test_positives_and_shares_by_counting():
    np.testing.assert_array_equal(class_frequencies.positives(LABELS, 3), [2, 0, 3])
    np.testing.assert_allclose(class_frequencies.shares(LABELS, 3), [2 / 5, 0, 3 / 5])
    np.testing.assert_array_equal(class_frequencies.positives(TARGETS, 3), [3, 1, 0])
    np.testing.assert_allclose(class_frequencies.shares(TARGETS, 3), [3 / 4, 1 / 3, NAN])


def test_a_class_counts_from_ten_cases_on():
    nine_and_ten = np.repeat([0, 1], [9, 10])
    assert class_frequencies.counted_classes(nine_and_ten, 3) == (1,)
    assert class_frequencies.counted_classes(nine_and_ten, 3, min_positives=9) == (0, 1)
    assert class_frequencies.counted_classes(TARGETS, 3, min_positives=1) == (0, 1)
    assert class_frequencies.counted_classes(np.zeros(20, int), 2, min_positives=0) == ()


def test_common_classes_are_counted_in_both_splits():
    here, there = np.repeat([0, 1, 2], [20, 10, 9]), np.repeat([0, 1, 2], [9, 11, 30])
    assert class_frequencies.common_classes(here, there, 3) == (1,)
    assert class_frequencies.common_classes(here, there, 3, min_positives=9) == (0, 1, 2)
