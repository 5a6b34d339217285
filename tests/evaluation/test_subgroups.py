import numpy as np
import pytest

from big_ssl.evaluation import subgroups, summary

pytestmark = pytest.mark.filterwarnings('error')


def test_words_are_groups_and_nothing_is_not_known():
    names = subgroups.groups(['f', '', ' m', 'f', 'not stated'])
    assert names.tolist() == ['f', 'not known', 'm', 'f', 'not stated']
    assert subgroups.ordered(names) == ['f', 'm', 'not stated', 'not known']


def test_values_that_the_images_of_a_case_do_not_share():
    assert subgroups.groups(['f', 'f|m', 'm']).tolist() == ['f', 'f|m', 'm']
    ages = [str(age) for age in range(30, 50)] + ['39|41', '41|39', '|19', '19|']
    names = subgroups.groups(ages)
    assert names[-4:].tolist() == ['20-39', '40-59', '<20', '<20']
    assert subgroups.groups(['1', '2|1', '2']).tolist() == ['1', '2', '2']


def test_an_image_without_a_value_does_not_count():
    """Of a case whose images have 45, 46 and no age, in whatever order: 45 if it comes first."""
    ages = [str(age) for age in range(30, 50)]
    joined = ['|45', '45|', '|45|46', 'nan|45', '45|nan', ' | 45', 'inf|45', '|', 'nan|', '|19']
    for edges in ((20, 40), ()):
        names = subgroups.groups([*ages, *joined], edges)[len(ages) :].tolist()
        known, young = ('>=40', '<20') if edges else ('45', '19')
        assert names == 7 * [known] + 2 * ['not known'] + [young]
    words = subgroups.groups(['f|', '|f', 'm | ', '|f||m|', '||', 'f|m'])
    assert words.tolist() == ['f', 'f', 'm', 'f|m', 'not known', 'f|m']
    assert subgroups.ordered(words) == ['f', 'f|m', 'm', 'not known']
    grades = subgroups.groups(['|1', '2|', 'nan', '1|2'])
    assert grades.tolist() == ['1', '2', 'not known', '1']


def test_a_column_without_any_value():
    for column in ([''], ['|', ''], ['nan'], ['nan|inf', '']):
        assert set(subgroups.groups(column)) == {'not known'}


def test_ages_are_cut_into_bands_by_completed_years():
    ages = ['0', '19', '19.9', '20', '39.5', '40', '59', '60', '79.99', '80', '101', '', 'nan']
    names = subgroups.groups(ages)
    assert names.tolist() == [
        *3 * ['<20'], *2 * ['20-39'], *2 * ['40-59'], *2 * ['60-79'], *2 * ['>=80'],
        'not known', 'not known',
    ]  # fmt: skip
    random = np.random.default_rng(0)
    assert subgroups.ordered(random.permutation(names)) == [
        '<20', '20-39', '40-59', '60-79', '>=80', 'not known',
    ]  # fmt: skip


def test_other_edges():
    names = subgroups.groups([str(year) for year in range(1, 15)], edges=(5, 10))
    assert names.tolist() == 4 * ['<5'] + 5 * ['5-9'] + 5 * ['>=10']
    assert subgroups.groups([str(year) for year in range(1, 15)], edges=()).tolist() == [
        str(year) for year in range(1, 15)
    ]


def test_few_numbers_stay_what_they_are_in_their_order():
    """Ten grades are groups; an eleventh makes a quantity of them."""
    grades = [str(grade) for grade in range(1, 11)]
    names = subgroups.groups([*reversed(grades), ''])
    assert subgroups.ordered(names) == [*grades, 'not known']
    assert subgroups.ordered(subgroups.groups([*grades, '11'])) == ['<20']
    assert subgroups.groups([*grades, '11', 'old'])[-1] == 'old'


def test_figures_of_a_group_are_those_of_its_cases_alone():
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 150)
    labels[:60] %= 2  # the first group lacks a class
    probabilities = random.dirichlet(np.ones(3), 150)
    clusters, classes = np.arange(150) // 2, ('a', 'b', 'c')
    names = subgroups.groups(['f'] * 60 + ['m'] * 80 + [''] * 10)
    found = subgroups.summarise_groups(
        labels, probabilities, clusters, classes, names, multilabel=False
    )
    assert list(found) == ['f', 'm', 'not known']
    for name, rows in (('f', slice(60)), ('m', slice(60, 140)), ('not known', slice(140, None))):
        alone = summary.summarise(
            labels[rows],
            probabilities[rows],
            clusters[rows],
            classes,
            multilabel=False,
            thresholds=None,
        )
        assert found[name].items() <= alone.items()
        assert not [key for key in found[name] if 'sensitivity' in key or 'auc/' in key]
    assert found['f']['n_patients'] == 30 and found['f']['auc_macro/classes'] == 2
    assert found['m']['auc_macro/classes'] == 3 and 'auc_macro/low' in found['m']
    assert 'top1' in found['not known'] and 'auc_macro' not in found['not known']
