"""Counter-based random numbers and permutations: any draw by its index, nothing to carry along.

Both are plain vectorised arithmetic on unsigned 64-bit integers, so the order of a data set is a
pure function of (seed, index) on every machine. `xp` is NumPy, or `jax.numpy` with 64 bits enabled:
the same numbers.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt64

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ROUNDS = 8
_KEPT_WHOLE = 2**17  # longest permutation that is computed once for all its positions
_KEPT = 8  # of those, at most
_SMALLEST_HALF = 4  # bits; very small Feistel halves have too few round functions


def mix(x: UInt64[np.ndarray, '...']) -> UInt64[np.ndarray, '...']:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014, variant 13 of Stafford): a bijection."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bits(*words: Int[np.ndarray, '...'] | int, xp: Any = np) -> UInt64[np.ndarray, '...']:
    """64 random bits for each combination of the (broadcast) words; their order matters."""
    state = xp.zeros((1,), np.uint64)
    for word in words:
        word = xp.atleast_1d(xp.asarray(word)).astype(np.uint64)
        state = mix((state + np.uint64(_GOLDEN)) ^ mix(word + np.uint64(_GOLDEN)))
    return state


def uniforms(*words: Int[np.ndarray, '...'] | int, xp: Any = np) -> Float[np.ndarray, '...']:
    """Float64 uniform in [0, 1) for each combination of the (broadcast) words."""
    return (bits(*words, xp=xp) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(
    positions: Int[np.ndarray, ' n'], length: int, *key: Int[np.ndarray, ' n'] | int
) -> Int[np.ndarray, ' n']:
    """Where the keyed permutation of `range(length)` sends each position, in at most 8 MB memory.

    A balanced Feistel network on the next even power of two, with cycle walking back into the
    range (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
      positions: in [0, length).
      length: size of the permuted range.
      key: integers or arrays as long as `positions`; each combination is another permutation.
    """
    positions = np.asarray(positions)
    if positions.size and not (positions.min() >= 0 and positions.max() < length):
        raise ValueError(f'positions must be in [0, {length})')
    round_keys = np.broadcast_to(bits(*key), positions.shape)
    distinct = np.unique(round_keys)
    if length > _KEPT_WHOLE or len(distinct) > _KEPT:
        return _walk(positions, length, round_keys)
    out = np.empty(positions.shape, np.int64)
    for one in distinct.tolist():
        here = round_keys == one
        out[here] = _whole(length, one)[positions[here]]
    return out


@functools.lru_cache(maxsize=_KEPT)
def _whole(length: int, key: int) -> Int[np.ndarray, ' length']:
    """A whole permutation: walks of a few positions at a time cost NumPy far more a position."""
    return _walk(np.arange(length), length, np.full(length, key, np.uint64))


def _walk(
    positions: Int[np.ndarray, ' n'], length: int, keys: UInt64[np.ndarray, ' n']
) -> Int[np.ndarray, ' n']:
    out = positions.astype(np.uint64)
    outside = np.ones(out.shape, bool)
    while outside.any():
        out[outside] = feistel(out[outside], length, keys[outside])
        outside = out >= np.uint64(length)
    return out.astype(np.int64)


def feistel(
    x: UInt64[np.ndarray, ' n'], length: int, keys: UInt64[np.ndarray, ' n']
) -> UInt64[np.ndarray, ' n']:
    """A keyed bijection of the smallest power of four that holds `range(length)`."""
    half = max(_SMALLEST_HALF, -(-(length - 1).bit_length() // 2))
    low_bits, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = x >> shift, x & low_bits
    for number in range(_ROUNDS):
        salt = np.uint64((number + 1) * _GOLDEN & _MASK)
        left, right = right, left ^ (mix(mix(right + salt) ^ keys) & low_bits)
    return (left << shift) | right
