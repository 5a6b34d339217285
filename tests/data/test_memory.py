"""What a run holds of its table; the promise is for a million cases."""

from pathlib import Path

import pytest

from benchmarks import memory

FEW, MANY = 50_000, 200_000


@pytest.fixture(scope='module')
def figures():
    return {cases: memory.measure(cases) for cases in (FEW, MANY)}


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs /proc')
@pytest.mark.parametrize('way', ['table', 'records'])
@pytest.mark.parametrize(('name', 'limit'), [('bytes', 200), ('peak_bytes', 900)])
def test_bytes_of_a_further_case(figures, way, name, limit):
    """Between two sizes: what the libraries take when they are first used is in both."""
    few, many = (cases * figures[cases][f'memory/{way}/{name}_per_case'] for cases in (FEW, MANY))
    assert 50 < (many - few) / (MANY - FEW) < limit


@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs /proc')
def test_figures_are_flat_numbers(figures):
    names = ('bytes_per_case', 'peak_bytes_per_case', 'open_seconds', 'seconds', 'cpu_seconds')
    ways = ('table', 'records')
    assert [*figures[FEW]] == [f'memory/{way}/{name}' for way in ways for name in names]
    assert all(type(value) is float and value > 0 for value in figures[FEW].values())
