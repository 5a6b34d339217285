"""The spread of a method's runs: over its pre-trainings, and over the fine-tunings of each."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean of a method and the standard deviations of its runs.

    Attributes:
      mean: over the pre-trainings, of the means over their fine-tunings.
      sd_pretraining: of those means (n - 1 in the denominator); NaN with one pre-training. It
        contains what of the fine-tunings' variation their mean has left.
      sd_finetuning: within pre-trainings, pooled; NaN if none was fine-tuned twice.
    """

    mean: float
    sd_pretraining: float
    sd_finetuning: float
    n_pretrainings: int
    n_runs: int


def spread(
    values: Float[np.ndarray, ' R'] | Sequence[float],
    pretraining: Int[np.ndarray, ' R'] | Sequence[int],
) -> Spread:
    """Spread of one figure over runs.

    Fine-tunings of one pre-training are not replicates of the method: only the sd over
    pre-trainings says how much another repetition of the whole method would differ.

    Args:
      pretraining: the pre-training that each run began from.
    """
    values, pretraining = np.asarray(values, np.float64), np.asarray(pretraining)
    parts = [values[pretraining == code] for code in np.unique(pretraining)]
    means = np.array([part.mean() for part in parts])
    squares = sum(((part - part.mean()) ** 2).sum() for part in parts)
    freedom = len(values) - len(parts)
    return Spread(
        mean=float(means.mean()),
        sd_pretraining=float(means.std(ddof=1)) if len(parts) > 1 else float('nan'),
        sd_finetuning=float(np.sqrt(squares / freedom)) if freedom else float('nan'),
        n_pretrainings=len(parts),
        n_runs=len(values),
    )
