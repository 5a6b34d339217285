"""Which images step `s` sees: a pure function of (seed, s), the same on any number of hosts.

Global example number → epoch and position → permuted unit → distinct images → crop draws. Resuming
is calling it with a later step. The same functions run on the host (NumPy) and in the step
(`data.device`: `jax.numpy`, with 64 bits enabled).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from big_ssl.data import permutation
from big_ssl.data.cases import Units

CROP_CANDIDATES = 10
_ORDER, _IMAGES, _CROPS = range(3)  # streams of random numbers
_NOT_DRAWN = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True)
class Indices:
    """One global batch, before any byte is read.

    Attributes:
      examples: number of the example since the start of training; augmentation keys derive from it.
      units: which unit of the sampler.
      images: rows of the manifest, one a view.
      groups: see `Units.groups`.
    """

    examples: Int[np.ndarray, ' b']
    units: Int[np.ndarray, ' b']
    images: Int[np.ndarray, 'b v']
    groups: Int[np.ndarray, ' b']

    def __getitem__(self, part: slice) -> 'Indices':
        return Indices(**{f.name: getattr(self, f.name)[part] for f in dataclasses.fields(self)})


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Draws global batches of `batch_size` examples with `views` views each."""

    units: Units
    seed: int
    batch_size: int
    views: int

    @property
    def epoch(self) -> int:
        """Examples in an epoch; batches run on across its end."""
        return len(self.units)

    def batch(self, step: int) -> Indices:
        """The batch of step `step` (0 is the first)."""
        size = self.batch_size
        return draw(self.units, np.int64(step), seed=self.seed, batch_size=size, views=self.views)

    def crops(self, batch: Indices) -> Float[np.ndarray, 'b v candidates 4']:
        """Uniforms in [0, 1) for `augment.crops.crop_boxes`, a pure function of the examples."""
        return crop_uniforms(batch.examples, self.seed, self.views)


def draw(
    units: Units,
    step: Any,
    *,
    seed: int,
    batch_size: int,
    views: int,
    permute: Callable[..., Any] = permutation.permute,
    xp: Any = np,
) -> Indices:
    """The batch of `step`, an int64 of NumPy or of JAX.

    Args:
      permute: `permutation.permute`, or what does the same in `xp`.
      xp: NumPy or `jax.numpy`.
    """
    examples = step * batch_size + xp.arange(batch_size)
    epoch, position = xp.divmod(examples, len(units))
    chosen = permute(position, len(units), seed, _ORDER, epoch)
    start = units.offsets[chosen]
    count = units.offsets[chosen + 1] - start
    draws = permutation.uniforms(seed, _IMAGES, examples[:, None], xp.arange(views), xp=xp)
    images = units.images[start[:, None] + _distinct(draws, count, xp)]
    return Indices(examples=examples, units=chosen, images=images, groups=units.groups[chosen])


def crop_uniforms(
    examples: Int[np.ndarray, ' b'], seed: int, views: int, xp: Any = np
) -> Float[np.ndarray, 'b v candidates 4']:
    """Uniforms in [0, 1) for `augment.crops.crop_boxes`."""
    return permutation.uniforms(
        seed,
        _CROPS,
        examples[:, None, None, None],
        xp.arange(views)[:, None, None],
        xp.arange(CROP_CANDIDATES)[:, None],
        xp.arange(4),
        xp=xp,
    )


def _distinct(
    draws: Float[np.ndarray, 'b v'], count: Int[np.ndarray, ' b'], xp: Any
) -> Int[np.ndarray, 'b v']:
    """Distinct ones of `range(count)` in random order; where there are too few, all once again."""
    chosen: list[Any] = []
    for view in range(draws.shape[1]):
        taken = view % count  # of this turn through the images, so far
        choice = (draws[:, view] * (count - taken)).astype(np.int64)
        if chosen:
            turn = xp.arange(view) >= (view - taken)[:, None]
            earlier = xp.sort(xp.where(turn, xp.stack(chosen, axis=1), _NOT_DRAWN), axis=1)
            for number in range(view):
                choice = choice + (choice >= earlier[:, number])
        chosen.append(choice)
    return xp.stack(chosen, axis=1)
