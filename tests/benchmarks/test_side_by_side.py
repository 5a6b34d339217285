import itertools

import pytest

from benchmarks.side_by_side import Cost, alternately, here, milliseconds, ratio


def test_costs_are_those_of_an_item():
    """Clocks that go on by 8, 4 and 2 seconds a look."""
    looks = itertools.count()

    def clocks():
        look = next(looks)
        return Cost(cpu=8.0 * look, wall=4.0 * look, system=2.0 * look)

    assert here(lambda: 2, clocks)() == Cost(cpu=4.0, wall=2.0, system=1.0)


def test_ways_take_turns_and_the_first_round_is_left_out():
    turns = []

    def way(name, cpu):
        def turn():
            turns.append(name)
            return Cost(cpu * len(turns), 1.0, 0.0)

        return turn

    costs = alternately({'a': way('a', 1), 'b': way('b', 10)}, repeats=2)
    assert turns == ['a', 'b'] * 3
    assert [cost.cpu for cost in costs['a']] == [3, 5]
    assert [cost.cpu for cost in costs['b']] == [40, 60]


def test_ratios_are_of_the_same_round():
    """A machine that is twice as slow in one round changes none of them."""
    fast, slow = Cost(1.0, 3.0, 0.0), Cost(2.0, 6.0, 0.0)
    others = [Cost(4.0, 3.0, 0.0), Cost(8.0, 6.0, 0.0)]
    assert ratio([fast, slow], others) == {'median': 0.25, 'low': 0.25, 'high': 0.25}
    assert ratio([fast, slow], others, 'wall') == {'median': 1, 'low': 1, 'high': 1}


def test_milliseconds():
    costs = {'a': [Cost(0.001, 0.002, 0.0), Cost(0.003, 0.002, 0.0), Cost(0.008, 0.002, 0.0)]}
    assert milliseconds(costs) == {
        'a/cpu_ms': pytest.approx({'median': 3, 'low': 1, 'high': 8}),
        'a/wall_ms': pytest.approx({'median': 2, 'low': 2, 'high': 2}),
    }
