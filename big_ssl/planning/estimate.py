"""What a compiled training step needs, and the largest batch for which that is there."""

import dataclasses
import functools
import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from big_ssl.data import feed
from big_ssl.data.batches import Source
from big_ssl.data.device import Pool
from big_ssl.errors import InputError
from big_ssl.planning import program
from big_ssl.planning.collectives import Collectives, collectives_of
from big_ssl.planning.flops import flops_of
from big_ssl.train.memory import device_memory
from big_ssl.train.mesh import make_mesh, replicated
from big_ssl.train.state import TrainState

log = logging.getLogger(__name__)

_TOO_MUCH = 1 << 42  # bytes, more than any device has
_SEARCHES = 5  # compilations of the search for the largest batch


@dataclasses.dataclass(frozen=True)
class Memory:
    """Of one device while the step runs, in bytes.

    Attributes:
      parameters: with batch statistics and what the method keeps (a target network, say).
      optimizer: its state.
      batch: images and what goes with them.
      temporaries: activations, gradients, and everything else that comes and goes.
      program: the compiled code.
    """

    parameters: int
    optimizer: int
    batch: int
    temporaries: int
    program: int

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of a step at one batch size.

    Attributes:
      batch_size: global, in examples.
      needed: bytes on one device, as the compiler counts them.
      available: bytes on one device; 0 is not known.
      memory: where they go; None if the step does not fit: the compiler then says the sum alone.
      flops: of convolutions and matrix products of one step, over all devices.
      collectives: of one step, as one device sees it; None if it does not fit.
      trace_seconds, compile_seconds: on this machine.
      refusal: what a run would say before it compiles, whatever its batch.
    """

    batch_size: int
    needed: int
    available: int
    memory: Memory | None
    flops: int
    collectives: Collectives | None
    trace_seconds: float
    compile_seconds: float
    refusal: str = ''

    @property
    def fits(self) -> bool:
        return self.memory is not None and (not self.available or self.needed <= self.available)


def available_memory(devices: Sequence[jax.Device]) -> int:
    """Bytes that a program may use on one device; 0 where nobody says.

    The compiler for TPUs keeps a part of the memory to itself and names the rest when asked for too
    much; for others see `device_memory`.
    """
    if devices[0].platform != 'tpu':
        return device_memory(devices)
    shape = jax.ShapeDtypeStruct(
        (_TOO_MUCH // 4,), jnp.float32, sharding=replicated(make_mesh(devices))
    )
    try:
        jax.jit(lambda x: (x + 1, x[::-1])).lower(shape).compile()
    except jax.errors.JaxRuntimeError as error:
        return _of_message(error)[1]
    raise AssertionError('a device has 4 TiB')


def estimate(
    config: ConfigDict, devices: Sequence[jax.Device], *, available: int, classes: int, images: int
) -> Estimate:
    """Compiles the training step of a config for these devices.

    Args:
      config: settled.
      devices: of this machine or of a `topology.Slice`.
      available: of `available_memory`.
      classes, images: see `program.training_step`.

    Raises:
      InputError: as `training_step`.
    """
    log.info('compiling for a batch of %d', config.batch_size)
    mesh = make_mesh(devices)
    start = time.monotonic()
    step, state, batch = program.training_step(config, mesh, classes=classes, images=images)
    traced = step.trace(state, batch)  # type: ignore[attr-defined]
    lowered = traced.lower(lowering_platforms=(devices[0].platform,))
    between = time.monotonic()
    found = functools.partial(
        Estimate,
        batch_size=config.batch_size,
        available=available,
        flops=flops_of(traced.jaxpr.jaxpr),
        trace_seconds=between - start,
    )
    if refusal := _refusal(batch, images, available):
        return found(
            needed=_bytes(batch),
            memory=None,
            collectives=None,
            compile_seconds=0.0,
            refusal=refusal,
        )
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed, _ = _of_message(error)
        seconds = time.monotonic() - between
        return found(needed=needed, memory=None, collectives=None, compile_seconds=seconds)
    seconds = time.monotonic() - between
    memory = _memory(compiled, state)
    return found(
        needed=memory.total,
        memory=memory,
        collectives=collectives_of(compiled.as_text(), len(devices)),
        compile_seconds=seconds,
    )


def largest_batch(
    estimate_at: Callable[[int], Estimate], first: Estimate, devices: int
) -> Estimate | None:
    """The largest batch that fits, found by compiling a few.

    Memory grows about evenly with the batch, so a line through two of them says where to look next.
    Sizes have at most five significant bits a device: what is returned has been compiled, and the
    true limit is less than a sixteenth above it unless the search ends after `_SEARCHES`.

    Args:
      estimate_at: batch size → its estimate.
      first: one that is there.
      devices: the batch is a multiple of them (times the chunks that it is computed in).

    Returns:
      None if no batch fits that was tried, or nobody says how much memory there is.
    """
    known = {first.batch_size: first}
    for _ in range(_SEARCHES if first.available and not first.refusal else 0):
        fitting = max((size for size, e in known.items() if e.fits), default=0)
        too_large = min((size for size, e in known.items() if not e.fits), default=math.inf)
        size = max(_round(_guess(known), devices), _round_up(fitting + 1, devices))
        size = size if size < too_large else _round(int(too_large) - 1, devices)
        if size <= fitting:
            break
        known[size] = estimate_at(size)
    return max((e for e in known.values() if e.fits), key=lambda e: e.batch_size, default=None)


def _guess(known: dict[int, Estimate]) -> int:
    """Where the line through the two estimates nearest to the memory there is meets it."""
    nearest = sorted(known.values(), key=lambda e: abs(e.needed - e.available))[:2]
    one = nearest[0]
    if len(nearest) == 1:
        fixed = one.memory.parameters + one.memory.optimizer if one.memory else 0
        slope = (one.needed - fixed) / one.batch_size
    else:
        slope = (nearest[1].needed - one.needed) / (nearest[1].batch_size - one.batch_size)
    room = (one.available - one.needed) / slope if slope > 0 else one.batch_size
    return int(one.batch_size + room)


def _round(size: int, devices: int) -> int:
    """The largest batch up to `size` that has five significant bits on each device."""
    each = size // devices
    unit = 1 << max(each.bit_length() - 5, 0)
    return max(each // unit * unit, 0) * devices


def _round_up(size: int, devices: int) -> int:
    each = -(-size // devices)
    unit = 1 << max(each.bit_length() - 5, 0)
    return -(-each // unit) * unit * devices


def _refusal(batch: Source, images: int, available: int) -> str:
    """Of images that are to lie on the devices, if they are too many."""
    try:
        if isinstance(batch, Pool):
            feed.check_room(batch.layout, images, batch.mesh, available)
    except InputError as error:
        return str(error)
    return ''


def _memory(compiled: jax.stages.Compiled, state: TrainState) -> Memory:
    found: Any = compiled.memory_analysis()
    parameters = _bytes((state.params, state.batch_stats, state.extra))
    optimizer = _bytes((state.opt_state, state.step))
    given = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(
        parameters=parameters,
        optimizer=optimizer,
        batch=given - parameters - optimizer,
        temporaries=found.temp_size_in_bytes,
        program=found.generated_code_size_in_bytes,
    )


def _bytes(tree: object) -> int:
    """Of the part on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def _of_message(error: Exception) -> tuple[int, int]:
    """Bytes needed and there, of a compiler's complaint; raises anything else again."""
    text = str(error)
    number = r'([\d.]+)([KMGT]?)'
    found = re.search(rf'\({number}\) exceeds available \w+ \({number}\)', text) or re.search(
        rf'Used {number} of {number} hbm', text
    )
    if 'RESOURCE_EXHAUSTED' not in text or found is None:
        raise error
    scale = {unit: 2 ** (10 * i) for i, unit in enumerate(('', 'K', 'M', 'G', 'T'))}
    needed, there = (float(found[i]) * scale[found[i + 1]] for i in (1, 3))
    return int(needed), int(there)
