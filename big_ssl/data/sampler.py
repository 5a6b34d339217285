"""Which images step `s` sees: a pure function of (seed, s), the same on any number of hosts.

Global example number → epoch and position → permuted unit → distinct images → crop draws. Resuming
is calling it with a later step.
"""

import dataclasses

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
        examples = np.int64(step) * self.batch_size + np.arange(self.batch_size)
        epoch, position = np.divmod(examples, self.epoch)
        units = permutation.permute(position, self.epoch, self.seed, _ORDER, epoch)
        return Indices(
            examples=examples,
            units=units,
            images=self._images(examples, units),
            groups=self.units.groups[units],
        )

    def crops(self, batch: Indices) -> Float[np.ndarray, 'b v candidates 4']:
        """Uniforms in [0, 1) for `augment.crops.crop_boxes`, a pure function of the examples."""
        return permutation.uniforms(
            self.seed,
            _CROPS,
            batch.examples[:, None, None, None],
            np.arange(self.views)[:, None, None],
            np.arange(CROP_CANDIDATES)[:, None],
            np.arange(4),
        )

    def _images(self, examples: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Distinct images of each unit in random order; a unit with too few starts again."""
        start, size = self.units.offsets[units], np.diff(self.units.offsets)[units]
        draws = permutation.uniforms(self.seed, _IMAGES, examples[:, None], np.arange(self.views))
        local = np.full((len(units), self.views), _NOT_DRAWN)
        for view in range(self.views):
            taken = view % size  # of this turn through the unit's images, so far
            choice = (draws[:, view] * (size - taken)).astype(np.int64)
            turn = np.arange(view) >= (view - taken)[:, None]
            for earlier in np.sort(np.where(turn, local[:, :view], _NOT_DRAWN), axis=1).T:
                choice += choice >= earlier
            local[:, view] = choice
        return self.units.images[start[:, None] + local]
