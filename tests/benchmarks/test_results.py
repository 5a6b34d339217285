import json

import pytest

from benchmarks import results
from benchmarks.results import Found, Target

ABOUT = {'machine': '2 cores', 'versions': {'jax': '1'}}
ONE = {'median': 1.0, 'low': 0.5, 'high': 2.0}
TWO = {'median': 2.0, 'low': 1.5, 'high': 3.0}


def found(value=ONE, limit=1.5):
    figures = {'ours/cpu_ms': value, 'ours/wall_ms': value, 'ours_over_theirs': value}
    return Found('a title', figures, [Target('ours_over_theirs', '<=', limit)], ['a note'])


def test_a_part_is_replaced_and_others_stay(tmp_path):
    file = tmp_path / 'results.json'
    for part, each in (('host', found()), ('step', found()), ('host', found(TWO))):
        results.keep(file, part, each, ABOUT)
    kept = json.loads(file.read_text())
    assert kept['machine'] == '2 cores' and kept['versions'] == {'jax': '1'} and kept['date']
    assert kept['figures']['step/ours/cpu_ms'] == ONE
    assert kept['figures']['host/ours/cpu_ms'] == TWO
    assert len(kept['figures']) == 6
    assert kept['targets'] == [
        {'what': 'step/ours_over_theirs', 'value': 1.0, 'target': '<= 1.5', 'met': True},
        {'what': 'host/ours_over_theirs', 'value': 2.0, 'target': '<= 1.5', 'met': False},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ['results.json']


def test_a_part_whose_name_begins_like_another_is_not_that():
    earlier = results.merge({}, 'start', found(), ABOUT)
    assert 'start/ours/cpu_ms' in results.merge(earlier, 'st', found(), ABOUT)['figures']


@pytest.mark.parametrize('other', [{'machine': '4 cores'}, {'versions': {'jax': '2'}}])
def test_figures_of_another_machine_or_version_do_not_stay(other):
    earlier = results.merge({}, 'step', found(), ABOUT | other)
    merged = results.merge(earlier, 'host', found(), ABOUT)
    assert {name.partition('/')[0] for name in merged['figures']} == {'host'}
    assert len(merged['targets']) == 1


@pytest.mark.parametrize(
    ('relation', 'limit', 'said'),
    [
        ('<=', 2.0, 'target <= 2: met'),
        ('<=', 1.5, 'target <= 1.5: met, not in every round'),
        ('<=', 0.9, 'target <= 0.9: missed'),
        ('>=', 0.7, 'target >= 0.7: met, not in every round'),
        ('>=', 0.5, 'target >= 0.5: met'),
    ],
)
def test_a_block_of_the_table(relation, limit, said):
    block = results.text(
        'host',
        Found(
            'a title', found().figures, [Target('ours_over_theirs', relation, limit)], ['a note']
        ),
    )
    assert block.splitlines() == [
        'host: a title',
        '        CPU ms                wall ms',
        '  ours  1.00 (0.500 to 2.00)  1.00 (0.500 to 2.00)',
        f'  ours_over_theirs  1.00 (0.500 to 2.00)   {said}',
        '  a note',
    ]  # fmt: skip


def test_about_this_machine():
    about = results.about_machine()
    assert 'cores' in about['machine']
    assert about['versions']['jax']
