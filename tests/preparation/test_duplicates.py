import hashlib
import io
import itertools
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from big_ssl.preparation import duplicates
from big_ssl.preparation.duplicates import LIMIT, across_splits, grey, near_pairs, perceptual_hash
from tests.helpers import smooth

SHARED = Path(__file__).parents[3] / 'shared' / 'data' / 'derm_ham10000.tar'
SPLITS = ('test', 'train', 'val', '')


def picture(seed, height=150, width=200):
    """Noise whose amplitude falls with frequency, as in photographs; uint8 [h, w, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(height) * height, np.fft.rfftfreq(width) * width
    frequency = np.hypot(y[:, None], x)
    frequency[0, 0] = np.inf
    waves = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((3, height, width))) / frequency**1.2)
    waves = 0.7 * waves[:1] + 0.3 * waves
    levels = 128 + 45 * waves / waves.std(axis=(1, 2), keepdims=True)
    return np.rint(levels.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)


def hash_of(levels):
    return perceptual_hash(grey(levels))


def differing(one, other):
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def luma(levels):
    """Rec. 601 in integers, as JPEG and Pillow have it; uint8 [h, w]."""
    if levels.shape[-1] == 1:
        return levels[..., 0]
    return (levels.astype(int) @ [19595, 38470, 7471] + 2**15 >> 16).astype(np.uint8)


def hash_by_matrices(levels):
    """The hash with the cosine transform as two matrix products."""
    grey = Image.fromarray(luma(levels))
    small = np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR), float)
    k, n = np.mgrid[:32, :32]
    cosines = np.cos(np.pi * (n + 0.5) * k / 32) * np.sqrt(np.where(k == 0, 1, 2) / 32)
    low = (cosines @ small @ cosines.T)[:16, :16].ravel()
    bits = low > np.sort(low[1:])[127]  # the median of 255
    return int(''.join('01'[bit] for bit in bits.astype(int)), 2).to_bytes(32)


@pytest.mark.parametrize('shape', [(150, 200), (33, 31), (400, 64)])
def test_the_hash_is_the_signs_of_256_low_frequencies(shape):
    for seed in range(5):
        levels = picture(seed, *shape)
        assert hash_of(levels) == hash_by_matrices(levels)
        grey = levels[..., :1]
        assert hash_of(grey) == hash_by_matrices(grey)
        assert len(hash_of(grey)) == 32


def as_jpeg(image):
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=50)
    return Image.open(file)


@pytest.mark.parametrize(
    ('change', 'bits'),  # measured: 6, 4, 12, 4, 8, 4, 0 of twenty pictures
    [
        (as_jpeg, 12),
        (lambda image: image.resize((100, 75), Image.Resampling.BICUBIC), 10),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.2), 20),
        (lambda image: ImageEnhance.Brightness(image).enhance(0.7), 10),
        (lambda image: ImageEnhance.Contrast(image).enhance(1.25), 16),
        (lambda image: ImageEnhance.Contrast(image).enhance(0.7), 10),
        (lambda image: image.convert('L').convert('RGB'), 0),
    ],
)
def test_a_picture_stored_in_another_way_has_nearly_the_same_hash(change, bits):
    assert bits <= LIMIT
    for seed in range(20):
        levels = picture(seed)
        changed = np.asarray(change(Image.fromarray(levels)))
        assert differing(hash_of(levels), hash_of(changed)) <= bits


def test_different_pictures_have_hashes_far_apart():
    """Unrelated bits differ in 128 of 256, deviation 8."""
    hashes = [hash_of(picture(seed)) for seed in range(30)]
    found = [differing(*pair) for pair in itertools.combinations(hashes, 2)]
    assert min(found) > 4 * LIMIT and abs(np.mean(found) - 128) < 4


@pytest.mark.parametrize('value', [0, 17, 255])
@pytest.mark.parametrize('shape', [(1, 1, 1), (50, 40, 1), (50, 40, 3)])
def test_a_picture_of_one_colour_is_zeros(shape, value):
    assert hash_of(np.full(shape, value, np.uint8)) == bytes(32)
    assert hash_of(smooth(50, 40)) != bytes(32)


def hashes(rng, count):
    """Of three pictures, each up to 20 bits away from it, and some of zeros."""
    bits = np.random.default_rng(0).integers(0, 2, (3, 256), np.uint8)[rng.integers(0, 3, count)]
    for row in bits:
        row[rng.choice(256, rng.integers(0, 21), replace=False)] ^= 1
    bits[rng.random(count) < 0.2] = 0
    return np.packbits(bits, axis=1)


@pytest.mark.parametrize('block', [1, 2, 5, 4096])
@pytest.mark.parametrize(('one', 'other'), [(1, 10), (5, 10), (7, 11), (23, 4)])
def test_near_pairs_are_those_of_brute_force(monkeypatch, block, one, other):
    monkeypatch.setattr(duplicates, '_BLOCK', block)
    a, b = (hashes(np.random.default_rng([i, one, other]), (one, other)[i]) for i in range(2))
    found = [pair for part in near_pairs(a, b) for pair in zip(*map(np.ndarray.tolist, part))]
    bits = {
        (i, j): differing(a[i].tobytes(), b[j].tobytes())
        for i, j in itertools.product(range(one), range(other))
        if a[i].any() and b[j].any()
    }
    near = sorted((*ij, n) for ij, n in bits.items() if n <= 24)
    assert sorted(found) == near and 0 < len(near) < len(bits)


@pytest.mark.parametrize('bits', [24, 25])
def test_it_does_not_matter_which_bits_differ(bits):
    """Those that are compared first, the others, every run of bits, and any bits."""
    first, rng = duplicates._SAMPLE, np.random.default_rng(0)
    chosen = [first[:bits], first[-bits:], np.setdiff1d(range(256), first)[:bits]]
    chosen += [(np.arange(bits) + start) % 256 for start in range(256)]
    chosen += [rng.choice(256, bits, replace=False) for _ in range(256)]
    base = rng.integers(0, 2, 256, np.uint8)
    other = np.tile(base, (len(chosen), 1))
    for row, places in zip(other, chosen):
        row[places] ^= 1
    (found,) = near_pairs(np.packbits(base)[None], np.packbits(other, axis=1))
    assert found[1].tolist() == (list(range(len(chosen))) if bits == 24 else [])


@pytest.mark.parametrize('limit', [0, 1, 24, 254])
def test_the_limit_is_the_last_number_of_bits_that_counts(limit):
    one = np.full((1, 32), 255, np.uint8)
    for bits in (limit, limit + 1):
        (found,) = near_pairs(one, np.packbits(np.arange(256) >= bits)[None], limit)
        assert [part.tolist() for part in found] == (
            [[], [], []] if bits > limit else [[0], [0], [bits]]
        )


def flipped(seed, bits):
    """A hash from a seed, with so many of its first bits turned round."""
    base = np.unpackbits(np.random.default_rng(seed).integers(0, 256, 32, np.uint8))
    base[:bits] ^= 1
    return np.packbits(base).tobytes()


BLANK = bytes(32)


def table(rows):
    """Split, hash and what the file holds, of each image."""
    split, own, content = zip(*rows)
    sha256 = [hashlib.sha256(str(part).encode()).hexdigest() for part in content]
    return pd.DataFrame({'split': split, 'perceptual_hash': own, 'sha256': sha256})


def pairs_of_images(images):
    """{(first image, first image): bits} of each pair of groups, smaller row first."""
    found = across_splits(images)
    return {
        tuple(sorted((int(found.first[a]), int(found.first[b])))): int(bits)
        for a, b, bits in found.pairs.to_numpy()
    }


def test_groups_are_of_one_split_and_one_hash():
    splits = ['train', 'test', 'train', 'train', '', 'test']
    own = [flipped(seed, bits) for seed, bits in ((0, 0), (0, 0), (0, 3), (0, 0), (0, 0), (1, 0))]
    found = across_splits(table(zip(splits, own, range(6))))
    assert found.group.tolist() == [0, 1, 2, 0, 3, 4] and found.first.tolist() == [0, 1, 2, 4, 5]
    assert sorted(map(sorted, found.pairs[['a', 'b']].to_numpy().tolist())) == [[0, 1], [1, 2]]
    assert sorted(found.pairs['bits']) == [0, 3]


def test_many_copies_of_one_picture_are_one_pair_for_two_splits():
    rows = [(split, flipped(0, 0), 0) for split in ('train', 'val', 'test', '') for _ in range(50)]
    assert pairs_of_images(table(rows)) == {(0, 50): 0, (0, 100): 0, (50, 100): 0}


def test_blank_pictures_match_only_as_equal_files():
    splits = ['train', 'test', 'test', 'val', '', 'train']
    contents = ['black', 'white', 'black', 'black', 'black', 'black']
    images = table(zip(splits, [*[BLANK] * 5, flipped(0, 0)], contents))
    assert pairs_of_images(images) == {(0, 2): 0, (0, 3): 0, (2, 3): 0}


def test_nothing_is_found_within_a_split_or_without_any():
    for split in ('train', ''):
        rows = [(split, flipped(0, 0), 0), (split, flipped(0, 1), 0), (split, BLANK, 1)]
        assert across_splits(table(rows)).pairs.empty


ROW = st.tuples(
    st.sampled_from(SPLITS),
    st.builds(flipped, st.integers(0, 2), st.integers(0, 60)) | st.just(BLANK),
    st.integers(0, 3),
)


@given(st.lists(ROW, min_size=1, max_size=25))
@settings(max_examples=150, deadline=None)
def test_what_is_in_two_splits_is_found_by_brute_force_too(rows):
    """The first images of a split with a hash (or file), compared one with another."""
    first = {}
    for i, (split, own, content) in enumerate(rows):
        first.setdefault((split, own, content if own == BLANK else None), i)
    expected = {}
    for (one, i), (other, j) in itertools.combinations(first.items(), 2):
        bits = differing(one[1], other[1])
        alike = one[1:] == other[1:] if BLANK in (one[1], other[1]) else bits <= 24
        if alike and one[0] != other[0] and one[0] and other[0]:
            expected[i, j] = bits
    assert pairs_of_images(table(rows)) == expected


def test_two_lesions_of_ham10000_that_are_one_photograph():
    """ISIC_0025226 and ISIC_0030074, published as different lesions, differ in 16 bits."""
    if not SHARED.exists():
        pytest.skip(f'{SHARED.name} is not beside the repository')
    names = [f'derm_ham10000/images/ISIC_00{i}.jpg' for i in (25226, 30074, 24310, 24312, 24313)]
    found = []
    with tarfile.open(SHARED) as tar:
        for name in names:
            with Image.open(tar.extractfile(name)) as image:
                found.append(hash_of(np.asarray(image)))
    bits = [differing(*pair) for pair in itertools.combinations(found, 2)]
    assert bits[0] == 16 and min(bits[1:]) > 2 * LIMIT
    images = table([(split, own, i) for i, (split, own) in enumerate(zip('aabbb', found))])
    assert pairs_of_images(images) == {}
    images['split'] = ['train', 'test', 'test', 'train', 'test']
    assert pairs_of_images(images) == {(0, 1): 16}
