import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from big_ssl.data.cases import Units
from big_ssl.data.sampler import Sampler

UNLIKELY = 1e-3  # the seeds are fixed: a test below it fails always


def units_of(sizes):
    """Cases of these numbers of images, whose rows in the manifest are scattered."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    images = np.random.default_rng(0).permutation(2 * offsets[-1])[: offsets[-1]]
    return Units(offsets=offsets, images=images, groups=np.arange(len(sizes)) // 2)


def sampler_of(sizes, batch_size=8, views=2, seed=0):
    return Sampler(units_of(sizes), seed=seed, batch_size=batch_size, views=views)


def images_of(units, unit):
    return units.images[units.offsets[unit] : units.offsets[unit + 1]].tolist()


def drawn(sampler, steps):
    return np.concatenate([sampler.batch(step).images for step in range(steps)])


@pytest.mark.parametrize('views', [2, 3])
def test_one_image_is_in_all_views(views):
    sampler = sampler_of([1] * 11, views=views)
    images = drawn(sampler, 5)
    assert images.shape == (40, views)
    assert (images == images[:, :1]).all()
    assert sampler.epoch == 11


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=30),
    views=st.integers(2, 6),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**31 - 1),
)
def test_images_are_of_the_unit_and_distinct_as_far_as_they_go(sizes, views, batch_size, seed):
    sampler = sampler_of(sizes, batch_size, views, seed)
    batch = sampler.batch(3)
    for unit, group, chosen in zip(batch.units, batch.groups, batch.images.tolist()):
        available = images_of(sampler.units, unit)
        assert group == unit // 2
        assert set(chosen) <= set(available)
        times = [chosen.count(image) for image in available]
        assert max(times) - min(times) <= 1
        first = chosen[: len(available)]
        assert len(set(first)) == len(first)


def epochs_of(sampler, epochs):
    """Units in order, cut at the ends of the epochs and not of the batches."""
    steps = -(-epochs * sampler.epoch // sampler.batch_size)
    units = np.concatenate([sampler.batch(step).units for step in range(steps)])
    return units[: epochs * sampler.epoch].reshape(epochs, sampler.epoch)


@pytest.mark.parametrize(('count', 'batch_size'), [(30, 8), (7, 16), (64, 64), (5, 1), (1, 4)])
def test_every_epoch_visits_every_unit_once(count, batch_size):
    order = epochs_of(sampler_of([2] * count, batch_size), epochs=6)
    assert (np.sort(order, axis=1) == np.arange(count)).all()
    if count > 5:
        assert len(np.unique(order, axis=0)) == 6


def test_examples_are_numbered_from_the_start():
    sampler = sampler_of([2] * 5, batch_size=8)
    assert sampler.batch(0).examples.tolist() == list(range(8))
    assert sampler.batch(10**9).examples.tolist() == list(range(8 * 10**9, 8 * 10**9 + 8))


def test_all_pairs_of_a_case_are_as_frequent():
    sampler = sampler_of([5], batch_size=20_000)
    images = sampler.batch(0).images
    for kind, count in ((itertools.permutations, 20), (itertools.combinations, 10)):
        pairs = list(kind(sorted(images_of(sampler.units, 0)), 2))
        found = images if count == 20 else np.sort(images, axis=1)
        counts = [(found == pair).all(axis=1).sum() for pair in pairs]
        assert len(counts) == count and sum(counts) == 20_000
        assert UNLIKELY < stats.chisquare(counts).pvalue < 1 - UNLIKELY


@pytest.mark.parametrize('size', [2, 3, 4, 6])
def test_pairs_stay_even_beside_other_cases(size):
    """Cases of other sizes in the batch, several epochs, one case watched."""
    sampler = sampler_of([1, 3, size, 2, 6], batch_size=25_000)
    batch = sampler.batch(1)
    images = batch.images[batch.units == 2]
    pairs = list(itertools.combinations(sorted(images_of(sampler.units, 2)), 2))
    counts = [(np.sort(images, axis=1) == pair).all(axis=1).sum() for pair in pairs]
    assert len(images) == 5000 and sum(counts) == 5000
    if len(counts) > 1:
        assert stats.chisquare(counts).pvalue > UNLIKELY


def test_all_triples_and_their_orders_are_as_frequent():
    sampler = sampler_of([4], batch_size=24_000, views=3)
    images = sampler.batch(0).images
    orders = list(itertools.permutations(images_of(sampler.units, 0), 3))
    counts = [(images == order).all(axis=1).sum() for order in orders]
    assert sum(counts) == 24_000 and len(counts) == 24
    assert UNLIKELY < stats.chisquare(counts).pvalue < 1 - UNLIKELY


def test_three_views_of_two_images_use_both():
    sampler = sampler_of([2], batch_size=10_000, views=3)
    images = sampler.batch(0).images
    assert (images[:, 0] != images[:, 1]).all()
    one = images == sampler.units.images[0]
    for even in (one[:, 0], one[:, 2], one[:, 2] == one[:, 0]):
        assert abs(even.mean() - 0.5) < 4 * 0.5 / 100


def test_one_image_cases_fall_back_to_it():
    sampler = sampler_of([1, 3, 1], batch_size=30)
    batch = sampler.batch(0)
    alone = batch.units != 1
    assert (batch.images[alone, 0] == batch.images[alone, 1]).all()
    assert (batch.images[~alone, 0] != batch.images[~alone, 1]).all()


def test_batches_in_any_order_of_calls():
    ahead = [sampler_of([2, 3, 1] * 5).batch(step) for step in range(6)]
    sampler = sampler_of([2, 3, 1] * 5)
    back = {step: sampler.batch(step) for step in (5, 0, 3, 3, 1, 4, 2)}
    for step, batch in enumerate(ahead):
        for name in ('examples', 'units', 'images', 'groups'):
            assert np.array_equal(getattr(batch, name), getattr(back[step], name))
        assert np.array_equal(sampler.crops(batch), sampler.crops(back[step]))


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_parts_of_the_hosts_make_the_batch(hosts):
    """A host that cuts its part out and then draws crops has what one host has."""
    whole = sampler_of([2, 3, 1, 4] * 5, batch_size=16).batch(2)
    crops = sampler_of([2, 3, 1, 4] * 5, batch_size=16).crops(whole)
    size = 16 // hosts
    parts, part_crops = [], []
    for host in range(hosts):
        sampler = sampler_of([2, 3, 1, 4] * 5, batch_size=16)
        parts.append(sampler.batch(2)[host * size : (host + 1) * size])
        part_crops.append(sampler.crops(parts[-1]))
    assert np.array_equal(np.concatenate([part.images for part in parts]), whole.images)
    assert np.array_equal(np.concatenate([part.groups for part in parts]), whole.groups)
    assert np.array_equal(np.concatenate(part_crops), crops)


def test_another_seed_is_another_order_other_pairs_and_other_crops():
    one, two = (sampler_of([6] * 50, batch_size=50, seed=seed) for seed in (0, 1))
    a, b = one.batch(0), two.batch(0)
    assert (a.units == b.units).mean() < 0.2
    assert (a.images == b.images).mean() < 0.2
    assert not (one.crops(a) == two.crops(b)).any()


def test_crops_are_fresh_uniforms():
    sampler = sampler_of([2] * 100, batch_size=100)
    crops = np.stack([sampler.crops(sampler.batch(step)) for step in range(3)])
    assert crops.shape == (3, 100, 2, 10, 4)
    assert crops.min() >= 0 and crops.max() < 1
    assert len(np.unique(crops)) == crops.size
    for flat in (crops[..., i].ravel() for i in range(4)):
        assert stats.kstest(flat, 'uniform').pvalue > UNLIKELY
    views = crops[:, :, 0].ravel(), crops[:, :, 1].ravel()
    assert abs(np.corrcoef(*views)[0, 1]) < 4 / np.sqrt(views[0].size)
