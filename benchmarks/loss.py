"""NT-Xent of a large batch, forward and backward on one device: ours and lightly's.

  python -m benchmarks.loss WAY EXAMPLES      # one way, for `side_by_side.Child`

Every round has fresh processes: memory that was used once may not be asked for again. Linux only.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import memory
from benchmarks.results import Found, Target
from benchmarks.side_by_side import Child, Cost, Way, alternately, here, milliseconds, ratio, serve
from benchmarks.timing import summary

_WAYS = ('ours', 'lightly')
_DIM, _TEMPERATURE = 128, 0.1
_TOLERANCE = 1e-4


def measured(quick: bool) -> Found:
    """Time and memory of a loss with its gradient.

    Raises:
      ValueError: both do not give the same loss.
    """
    examples, repeats = (256, 1) if quick else (8192, 3)
    costs: dict[str, list[Cost]] = {way: [] for way in _WAYS}
    peaks: dict[str, list[float]] = {way: [] for way in _WAYS}
    for _ in range(repeats):
        with contextlib.ExitStack() as stack:
            ways = {way: stack.enter_context(Child(__name__, way, examples)) for way in _WAYS}
            _check_losses([ways[way].about['loss'] for way in _WAYS])
            for way, each in alternately(ways, 1).items():
                costs[way] += each
                peaks[way].append(ways[way].about['peak_bytes'])
    pairs = list(zip(peaks['ours'], peaks['lightly']))
    figures = milliseconds(costs)
    figures |= {f'{way}/peak_mb': summary([size / 1e6 for size in peaks[way]]) for way in _WAYS}
    figures |= {
        'ours_over_lightly/memory': summary([ours / lightly for ours, lightly in pairs]),
        'ours_over_lightly/wall': ratio(costs['ours'], costs['lightly'], 'wall'),
        'ours_over_lightly/cpu': ratio(costs['ours'], costs['lightly']),
    }
    return Found(
        f'{examples} examples of two views, {_DIM} numbers each, float32, all cores',
        figures,
        (
            Target('ours_over_lightly/memory', '<=', 1 / 20),
            Target('ours_over_lightly/wall', '<=', 1.0),
            Target('ours_over_lightly/cpu', '<=', 1.0),
        ),
        (
            f'the same loss by both, within {_TOLERANCE:g} of it',
            'peak: resident memory at the most, beyond what the process had before it began',
        ),
    )


def _check_losses(losses: list[float]) -> None:
    if not np.allclose(losses, losses[0], rtol=_TOLERANCE, atol=0):
        raise ValueError(f'losses of {", ".join(_WAYS)} differ: {losses}')


def _ours(z: np.ndarray) -> Callable[[], float]:
    """Loss and gradient, which returns the loss; compiled, and not yet run."""
    import jax
    import jax.numpy as jnp

    from big_ssl.losses.ntxent import nt_xent
    from big_ssl.train.mesh import make_mesh

    mesh, groups = make_mesh(jax.devices()[:1]), jnp.arange(len(z))
    z_on_device = jnp.asarray(z)

    def loss(z: jax.Array) -> jax.Array:
        return nt_xent(z, groups, _TEMPERATURE, mesh=mesh)[0]

    compiled = jax.jit(jax.value_and_grad(loss)).lower(z_on_device).compile()

    def once() -> float:
        value, gradient = compiled(z_on_device)
        gradient.block_until_ready()
        return float(value)

    return once


def _lightly(z: np.ndarray) -> Callable[[], float]:
    """Loss and gradient, which returns the loss; has run on a few examples."""
    import torch

    from benchmarks import peers

    peers.torchvision()
    from lightly.loss import NTXentLoss

    criterion = NTXentLoss(temperature=_TEMPERATURE)
    views = [torch.tensor(z[:, view], requires_grad=True) for view in range(2)]

    def gradient(views: list[torch.Tensor]) -> float:
        loss = criterion(*views)
        torch.autograd.grad(loss, views)
        return loss.item()

    gradient([view[:8] for view in views])
    return lambda: gradient(views)


def _prepared(way: str, examples: int) -> tuple[Way, Mapping[str, Any]]:
    """The way, and the loss and the memory of its first turn."""
    z = np.random.default_rng(0).normal(size=(examples, 2, _DIM)).astype(np.float32)
    once = {'ours': _ours, 'lightly': _lightly}[way](z)
    before = memory.forget_peak()
    loss = once()
    about = {'loss': loss, 'peak_bytes': memory.peak() - before}

    def turn() -> int:
        once()
        return 1

    return here(turn), about


if __name__ == '__main__':
    chosen, number = sys.argv[1:]
    serve(lambda: _prepared(chosen, int(number)))
