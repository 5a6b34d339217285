"""Learning rates over the steps of a run.

A schedule maps an integer step to a float32 rate. Steps stay integers until they are divided by the
length of the run, so no step beyond 2**24 is lost; the rate has float32's relative error of 1e-7.
"""

import math

import optax

from big_ssl.errors import InputError

SCALINGS = ('linear', 'sqrt', 'none')


def scaled_learning_rate(base: float, batch_size: int, scaling: str) -> float:
    """The peak rate for a global batch, by the rules of SimCLR (Chen et al. 2020, appendix B.1).

    'linear' is base * batch_size / 256 (there with base 0.3), 'sqrt' is base * sqrt(batch_size)
    (there with base 0.075, better for small batches and few epochs), 'none' is base.

    Raises:
      InputError: for an unknown scaling.
    """
    if scaling not in SCALINGS:
        raise InputError(
            f'unknown learning-rate scaling {scaling!r}; choose one of {", ".join(SCALINGS)}'
        )
    return base * {'linear': batch_size / 256, 'sqrt': math.sqrt(batch_size), 'none': 1.0}[scaling]


def warmup_cosine(peak: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Rises linearly from 0 at step 0 to `peak` at `warmup_steps`, falls to 0 at `total_steps`.

    The fall is half a cosine without restart (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5).

    Raises:
      InputError: if the warm-up does not end before the run.
    """
    if not 0 <= warmup_steps < total_steps:
        raise InputError(
            f'a warm-up of {warmup_steps} steps does not fit a run of {total_steps}; shorten it'
        )
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps, total_steps)


def constant(rate: float) -> optax.Schedule:
    """The same rate at every step."""
    return optax.constant_schedule(rate)
