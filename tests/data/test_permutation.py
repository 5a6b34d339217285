import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from big_ssl.data.permutation import bits, mix, permute, uniforms

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
UNLIKELY = 1e-3  # the seeds are fixed: a test below it fails always, not once in a thousand


def splitmix64(x):
    """The finaliser of SplitMix64 on Python integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=50))
def test_mix_is_splitmix64(numbers):
    expected = [splitmix64(number) for number in numbers]
    assert mix(np.array(numbers, np.uint64)).tolist() == expected


def test_mix_gives_the_published_sequence():
    states = [(1234567 + i * GOLDEN) & MASK for i in range(1, 6)]
    assert mix(np.array(states, np.uint64)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@settings(deadline=None)
@given(st.integers(1, 3000), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4))
def test_bijection(length, key):
    assert np.array_equal(np.sort(permute(np.arange(length), length, *key)), np.arange(length))


@pytest.mark.parametrize('length', [1, 2, 15, 16, 17, 255, 256, 257, 1023, 1025, 65537, 100_003])
def test_bijection_about_powers_of_two(length):
    assert np.array_equal(np.sort(permute(np.arange(length), length, 7)), np.arange(length))


def test_each_position_alone():
    """Keys and positions are paired; a position's image needs no other position."""
    together = permute(np.tile(np.arange(37), 5), 37, 3, np.repeat(np.arange(5), 37))
    alone = [permute(np.array([i]), 37, 3, epoch)[0] for epoch in range(5) for i in range(37)]
    assert together.tolist() == alone


def test_positions_out_of_range():
    for wrong in ([-1], [5], [0, 5]):
        with pytest.raises(ValueError, match='positions'):
            permute(np.array(wrong), 5, 0)
    assert permute(np.array([], int), 5, 0).shape == (0,)


def many(length, count, seed):
    """[count, length]: permutations of as many consecutive keys."""
    keys = np.repeat(np.arange(count), length)
    return permute(np.tile(np.arange(length), count), length, seed, keys).reshape(count, length)


@pytest.mark.parametrize('length', [2, 3, 5, 17, 100, 300])
@pytest.mark.parametrize('seed', [0, 1])
def test_every_value_is_as_likely_at_every_position(length, seed):
    """For random permutations (L-1)/L of the statistic is chi-square with (L-1)^2 degrees."""
    count = max(2000, 8 * length)
    table = np.zeros((length, length))
    np.add.at(table, (np.arange(length), many(length, count, seed)), 1)
    expected = count / length
    statistic = ((table - expected) ** 2 / expected).sum() * (length - 1) / length
    p = stats.chi2.sf(statistic, (length - 1) ** 2)
    assert UNLIKELY < p < 1 - UNLIKELY / 10


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_all_orders_of_four_are_as_likely(seed):
    orders, counts = np.unique(many(4, 24_000, seed), axis=0, return_counts=True)
    assert len(orders) == 24
    assert UNLIKELY < stats.chisquare(counts).pvalue < 1 - UNLIKELY


def test_odd_orders_are_as_likely_as_even_ones():
    """A Feistel network alone makes even permutations of its own domain, here of 16."""
    orders = many(16, 4000, 0)
    inversions = sum(
        (orders[:, i] > orders[:, j]).astype(int) for i in range(16) for j in range(i + 1, 16)
    )
    assert abs((inversions % 2).mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_consecutive_keys_give_unrelated_orders():
    """Two independent permutations agree at one position on average, variance one."""
    orders = many(100, 2000, 5)
    agreements = (orders[:-1] == orders[1:]).sum(axis=1)
    assert abs(agreements.mean() - 1) < 4 / np.sqrt(len(agreements))
    steps = np.diff(orders, axis=1)  # neighbours stay neighbours with probability 1/L each way
    assert abs((steps == 1).mean() - 1 / 100) < 4 * np.sqrt(0.01 / steps.size)


def test_uniforms_are_uniform():
    x = uniforms(0, np.arange(100_000))
    assert x.min() >= 0 and x.max() < 1
    assert stats.kstest(x, 'uniform').pvalue > UNLIKELY
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4 / np.sqrt(len(x))
    pairs = np.histogram2d(x[::2], x[1::2], bins=16)[0].ravel()
    assert stats.chisquare(pairs).pvalue > UNLIKELY


def test_words_broadcast():
    x = uniforms(3, np.arange(4)[:, None, None], np.arange(5)[:, None], np.arange(6))
    assert x.shape == (4, 5, 6) and x.dtype == np.float64
    assert x[2, 3, 4] == uniforms(3, 2, 3, 4)[0]
    assert len(np.unique(x)) == x.size


@pytest.mark.parametrize('changed', range(4))
def test_every_word_counts(changed):
    words = [np.arange(20_000) // 7, 1, 2, 3]
    other = list(words)
    other[changed] = words[changed] + 1
    a, b = uniforms(*words), uniforms(*other)
    a, b = a[::7], b[::7]
    assert not np.any(a == b)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(a))


def test_order_and_number_of_words_count():
    assert (
        len({int(bits(*words)[0]) for words in ((1, 2), (2, 1), (1, 2, 0), (0, 1, 2), (1,))}) == 5
    )


def test_one_flipped_bit_flips_half_of_them():
    words = np.arange(1000)[:, None]
    flipped = words ^ (1 << np.arange(48))
    difference = bits(9, words) ^ bits(9, flipped)
    ones = np.unpackbits(difference.view(np.uint8)).reshape(-1, 64)
    assert abs(ones.mean() - 0.5) < 4 * 0.5 / np.sqrt(ones.size)
    assert abs(ones.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(ones))
