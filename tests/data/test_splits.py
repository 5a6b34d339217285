import collections
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from big_ssl.data.splits import NAMES, SHARES, seeded_split, stratified_split

BITS = 60
SHARE = dict(zip(NAMES, SHARES))


def weyl(count):
    """frac(i φ) for i = 0, 1 …, φ = (√5 - 1) / 2, by integer arithmetic."""
    roots = (math.isqrt(5 * (i << BITS) ** 2) - (i << BITS) for i in range(count))
    return np.array([root // 2 % (1 << BITS) / (1 << BITS) for root in roots])


def discrepancy(count):
    """By how many of `count` members of Weyl's sequence any interval can be off.

    N D_N = 1 + max(i - N x_i) - min(i - N x_i) of the sorted points (Niederreiter 1972); it is
    the same for every start of the sequence. Of the golden ratio: 2.8 of 100, 4.2 of 3,000.
    """
    off = np.arange(1, count + 1) - count * np.sort(weyl(count))
    return 1 + off.max() - off.min()


def split(units, labels, seed=0, **options):
    return stratified_split(np.array(units, object), labels, seed, **options).tolist()


def by_unit(units, labels, seed=0, **options):
    """Unit → split; a unit has one."""
    found = collections.defaultdict(set)
    for name, where in zip(units, split(units, labels, seed, **options)):
        found[name].add(where)
    assert all(len(where) == 1 for where in found.values())
    return {name: where.pop() for name, where in found.items()}


def assert_shares(found, count, bound, shares=SHARE):
    counts = collections.Counter(found)
    for name, share in shares.items():
        assert abs(counts[name] - count * share) <= bound + 1e-9, (name, counts, count)


def test_the_bound_is_that_of_the_golden_ratio():
    """N D_N of the golden ratio grows as ln N / (5 ln 1.618), the slowest of all."""
    for count in (10, 100, 1000, 3000):
        assert discrepancy(count) < 1.5 + 0.416 * math.log(count)


@given(
    st.dictionaries(st.text(max_size=4), st.integers(1, 150), min_size=1, max_size=5),
    st.sampled_from([SHARES, (0.5, 0.3, 0.2), (0.8, 0.05, 0.15), (0.34, 0.33, 0.33)]),
    st.integers(0, 2**31),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_every_class_has_its_shares_within_the_discrepancy(sizes, shares, seed, random):
    classes = [label for label, count in sizes.items() for _ in range(count)]
    random.shuffle(classes)
    units = [f'patient {i}' for i in range(len(classes))]
    found = by_unit(units, [[label] for label in classes], seed, shares=shares)
    for label, count in sizes.items():
        own = [found[name] for name, other in zip(units, classes) if other == label]
        assert_shares(own, count, discrepancy(count), dict(zip(NAMES, shares)))


def test_a_class_goes_through_weyls_sequence():
    """Its splits are the golden ratio's, from a start between two borders of the shares."""
    found = split([f'p{i}' for i in range(200)], [['nevus']] * 200)
    places = weyl(200)
    borders = np.sort((np.array([[0.0], [0.7], [0.8]]) - places).ravel() % 1)
    starts = (borders + np.roll(borders, -1) + (np.arange(len(borders)) == len(borders) - 1)) / 2
    stood = (starts[:, None] % 1 + places) % 1
    assert found in np.select([stood < 0.7, stood < 0.8], ['train', 'val'], 'test').tolist()


def test_classes_start_at_different_places():
    """The first patient of a class goes anywhere, else rare classes would all be in train."""
    labels = [[f'class {i}'] for i in range(2000)]
    counts = collections.Counter(split([f'p{i}' for i in range(2000)], labels))
    for name, share in SHARE.items():
        assert abs(counts[name] - 2000 * share) < 4 * math.sqrt(2000 * share * (1 - share))


@pytest.mark.parametrize('labels', [[], ['']])
def test_without_labels_there_is_one_stratum(labels):
    found = split([f'p{i}' for i in range(500)], [labels] * 500)
    assert_shares(found, 500, discrepancy(500))


def test_a_patient_is_in_one_split_whatever_its_images_show():
    rng = np.random.default_rng(0)
    units = [f'p{i}' for i in rng.integers(0, 60, 600)]
    labels = [[f'class {i}'] for i in rng.integers(0, 3, 600)]
    first = dict(zip(units[::-1], labels[::-1]))
    found = by_unit(units, labels)
    for label in ('class 0', 'class 1', 'class 2'):
        own = [found[name] for name, (kind,) in first.items() if kind == label]
        assert_shares(own, len(own), discrepancy(len(own)))


def test_of_several_labels_the_rarest_is_kept_to_its_shares():
    """A hundred of a thousand patients have the rare one beside the common one."""
    for seed in range(10):
        rare = set(np.random.default_rng(seed).choice(1000, 100, replace=False).tolist())
        labels = [['common'] + ['rare'] * (i in rare) for i in range(1000)]
        found = split([f'p{i}' for i in range(1000)], labels, seed)
        assert_shares([found[i] for i in rare], 100, discrepancy(100))
        assert_shares(found, 1000, discrepancy(100) + discrepancy(900))


@pytest.mark.parametrize(
    ('shares', 'expected'), [((1, 0, 0), 'train'), ((0, 1, 0), 'val'), ((0, 0, 1), 'test')]
)
def test_a_share_of_everything(shares, expected):
    assert set(split([f'p{i}' for i in range(99)], [['x']] * 99, shares=shares)) == {expected}


def test_another_seed_is_another_split():
    units = [f'p{i}' for i in range(2000)]
    labels = [[f'class {i // 20}'] for i in range(2000)]
    first, again, other = (split(units, labels, seed) for seed in (0, 0, 1))
    assert first == again
    same = np.mean([one == two for one, two in zip(first, other)])
    assert 0.4 < same < 0.7  # 0.7^2 + 0.1^2 + 0.2^2 = 0.54 of unrelated splits


ROW = st.tuples(
    st.integers(0, 12).map(lambda i: f'unit {i}'),
    st.lists(st.sampled_from(['nv', 'mel', 'bcc', 'ü?']), max_size=3),
)


@given(st.lists(ROW, min_size=1, max_size=40), st.lists(ROW, max_size=40), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_appended_rows_move_nobody(rows, more, seed):
    before = by_unit(*zip(*rows), seed)
    after = by_unit(*zip(*rows, *more), seed)
    assert {name: after[name] for name in before} == before


@given(st.lists(ROW, min_size=1, max_size=40), st.sets(st.integers(0, 12)), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_known_units_stay_and_move_nobody(rows, chosen, seed):
    known = {f'unit {i}': ('train', 'val', 'test', 'other clinic')[i % 4] for i in chosen}
    found = by_unit(*zip(*rows), seed, known=known)
    alone = by_unit(*zip(*rows), seed)
    assert found == {name: known.get(name, where) for name, where in alone.items()}


def test_the_names_of_patients_do_not_matter_to_the_stratified_split():
    labels = [[('a', 'b')[i % 2]] for i in range(50)]
    assert split(range(50), labels) == split([f'hash {i * 7}' for i in range(50)], labels)


NAME = st.text(st.characters(codec='utf-8'), max_size=6)


@given(
    st.lists(NAME, min_size=1, max_size=30),
    st.lists(NAME, max_size=30),
    st.integers(0, 2**31),
    st.randoms(use_true_random=False),
)
@settings(max_examples=150, deadline=None)
def test_a_seeded_split_moves_nobody_whatever_comes_goes_or_moves(names, more, seed, random):
    before = dict(zip(names, seeded_split(np.array(names, object), seed).tolist()))
    assert set(before.values()) <= set(NAMES)
    mixed = [*names, *names, *more]
    random.shuffle(mixed)
    after = seeded_split(np.array(mixed, object), seed).tolist()
    for name, where in zip(mixed, after):
        assert before.get(name, where) == where
    for name in names:
        assert seeded_split(np.array([name], object), seed).tolist() == [before[name]]
