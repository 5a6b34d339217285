"""Images that are one picture: equal files, and near-duplicates by a perceptual hash.

The hash is the signs of the 256 lowest frequencies of a 32 x 32 picture against their median
(pHash; Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, section
3.2.1), with 16 x 16 frequencies in place of 8 x 8: X-rays of different patients are too alike for
64 bits. It survives another size, compression, brightness or contrast, not a crop or a turn.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
import scipy.fft
from jaxtyping import Float, Int, UInt8
from PIL import Image
from tqdm import tqdm

HASH_BYTES = 32
LIMIT = 24  # differing bits of 256 up to which two images are one picture (BUILD_NOTES.md)
_SIDE, _FREQUENCIES = 32, 16
_BLOCK = 2048  # images compared at once
_SAMPLE = np.random.default_rng(0).permutation(256)[:96]  # of the bits, compared first


def grey(levels: UInt8[np.ndarray, 'h w c']) -> Image.Image:
    """Of one channel (ITU-R BT.601 luma of three)."""
    return Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0]).convert('L')


def perceptual_hash(image: Image.Image) -> bytes:
    """256 bits that change little when the picture is stored in another way.

    A picture of one level has no frequencies to compare, and gives zeros.

    Args:
      image: `grey`.
    """
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float64)
    spectrum = scipy.fft.dctn(small, norm='ortho')[:_FREQUENCIES, :_FREQUENCIES].reshape(-1)
    if abs(spectrum[1:]).max() < 1e-6:
        return bytes(HASH_BYTES)
    return np.packbits(spectrum > np.median(spectrum[1:])).tobytes()


def near_pairs(
    one: UInt8[np.ndarray, 'n 32'], other: UInt8[np.ndarray, 'm 32'], limit: int = LIMIT
) -> Iterator[tuple[Int[np.ndarray, ' k'], Int[np.ndarray, ' k'], Int[np.ndarray, ' k']]]:
    """Positions in `one` and `other`, and differing bits, of pairs of at most `limit` of them.

    Every pair is compared: 96 of the bits by a matrix product of signs, and only those pairs that
    differ in no more than `limit` of them by all. Hashes of zeros (pictures of one colour) are no
    pairs. Comes a block at a time, for progress.
    """
    for top in range(0, len(one), _BLOCK):
        signs = _signs(one[top : top + _BLOCK])
        for left in range(0, len(other), _BLOCK):
            alike = signs @ _signs(other[left : left + _BLOCK]).T >= len(_SAMPLE) - 2 * limit
            a, b = np.divmod(np.flatnonzero(alike), alike.shape[1])
            a, b = a + top, b + left
            bits = np.bitwise_count(one[a] ^ other[b]).sum(axis=1, dtype=np.int64)
            real = (bits <= limit) & one[a].any(axis=1) & other[b].any(axis=1)
            yield a[real], b[real], bits[real]


@dataclasses.dataclass(frozen=True)
class Duplicates:
    """Pairs of groups of images that are one picture; a group is of one split and one hash.

    Attributes:
      pairs: `a`, `b` (groups of different splits), `bits` in which they differ.
      group: [n] of each image.
      first: [groups] the first image of each group.
    """

    pairs: pd.DataFrame
    group: Int[np.ndarray, ' n']
    first: Int[np.ndarray, ' groups']


def across_splits(images: pd.DataFrame, progress: bool = False) -> Duplicates:
    """What is in more than one split.

    Args:
      images: `split` ('' is none, and not compared), `perceptual_hash`, `sha256` of the source.
      progress: show it.
    """
    plain = images['perceptual_hash'] == bytes(HASH_BYTES)
    key = images['perceptual_hash'].where(~plain, images['sha256'].str.encode('ascii'))
    group, _ = pd.factorize(pd.MultiIndex.from_arrays([key, images['split']]))
    first = np.unique(group, return_index=True)[1]
    leading = images.iloc[first]
    split, own = leading['split'].to_numpy(), key.iloc[first].to_numpy()
    hashes = np.frombuffer(b''.join(leading['perceptual_hash']), np.uint8).reshape(-1, HASH_BYTES)
    names = sorted(set(split) - {''})
    found = []
    members = {name: np.flatnonzero(split == name) for name in names}
    for one, other in itertools.combinations(names, 2):
        a, b = members[one], members[other]
        blocks = near_pairs(hashes[a], hashes[b])
        total = -(-len(a) // _BLOCK) * -(-len(b) // _BLOCK)
        what = f'duplicates {one}/{other}'
        for i, j, bits in tqdm(blocks, what, total, disable=None if progress else True):
            if len(i):
                found.append(pd.DataFrame({'a': a[i], 'b': b[j], 'bits': bits}))
        same = pd.Series(a, own[a]), pd.Series(b, own[b])
        equal = pd.concat(same, axis=1, join='inner').set_axis(['a', 'b'], axis=1)
        found.append(equal[~hashes[equal['a']].any(axis=1)].assign(bits=0))
    pairs = pd.concat(found) if found else pd.DataFrame(columns=['a', 'b', 'bits'])
    pairs = pairs.sort_values(['a', 'b']).reset_index(drop=True)
    return Duplicates(pairs.astype(np.int64), group, first)


def _signs(hashes: UInt8[np.ndarray, 'n 32']) -> Float[np.ndarray, 'n 96']:
    return np.unpackbits(hashes, axis=1)[:, _SAMPLE].astype(np.float32) * 2 - 1
