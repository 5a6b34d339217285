"""TPU slices by the cloud's names, and the devices that an ahead-of-time compiler sees in them."""

import dataclasses
import itertools
import math
import os
import re

import jax
from jax.experimental import topologies

from big_ssl.errors import InputError
from big_ssl.keys import nearest

LOCAL = 'local'


@dataclasses.dataclass(frozen=True)
class Chip:
    """A generation of chips: figures of Google's Cloud TPU documentation, system architecture.

    Attributes:
      libtpu: the generation's name there.
      flops: peak of a chip in bfloat16, in FLOP/s.
      link_rate: of one link between chips, one way, in bytes/s.
      axes: of the torus, 2 or 3.
      cores_in_name: whether the N of `vX-N` counts cores, of which a chip has two; else chips.
      devices: that JAX sees in a chip.
    """

    libtpu: str
    flops: float
    link_rate: float
    axes: int
    cores_in_name: bool = False
    devices: int = 1


CHIPS = {
    'v2': Chip('v2', 45e12, 62e9, 2, cores_in_name=True, devices=2),
    'v3': Chip('v3', 123e12, 82e9, 2, cores_in_name=True, devices=2),
    'v4': Chip('v4', 275e12, 45e9, 3, cores_in_name=True),
    'v5e': Chip('v5e', 197e12, 45e9, 2),
    'v5p': Chip('v5', 459e12, 90e9, 3, cores_in_name=True),
    'v6e': Chip('v6e', 918e12, 90e9, 2),
}
_ALIASES = {'v5litepod': 'v5e', 'v5lite': 'v5e'}
_FLAT = {  # chips → sides of a two-dimensional slice
    1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16),
    256: (16, 16), 512: (16, 32), 1024: (32, 32),
}  # fmt: skip
_LARGEST = {'v2': 256, 'v3': 1024, 'v5e': 256, 'v6e': 256, 'v4': 4096, 'v5p': 8960}  # in chips
_SMALL_CUBOIDS = {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4)}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Connected chips.

    Attributes:
      chip: of which generation.
      devices: as JAX sees them; for compiling, not for running.
    """

    chip: Chip
    devices: tuple[jax.Device, ...]

    @property
    def chips(self) -> int:
        return len(self.devices) // self.chip.devices


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """Generation and sides, in chips, of a slice such as `v5e-16`, `v4-64` or `v5p:4x4x8`.

    Raises:
      InputError: there is no such slice.
    """
    found = re.fullmatch(r'(v\w+?)(?:-(\d+)|[:-](\d+(?:x\d+)+))', name.strip().lower())
    generation = _ALIASES.get(found[1], found[1]) if found else ''
    if found is None or generation not in CHIPS:
        known = [*CHIPS, LOCAL]
        hint = nearest(name.partition('-')[0], known)
        raise InputError(
            f'--topology={name}: not the name of a TPU slice{hint}; for example v3-32, v4-64, '
            f'v5e-16, v5p-128, v6e-256, v5e:4x8, or {LOCAL} for the devices of this machine'
        )
    chip = CHIPS[generation]
    if found[3]:
        sides = tuple(int(side) for side in found[3].split('x'))
        if len(sides) != chip.axes or 0 in sides:
            raise InputError(f'--topology={name}: a slice of {generation} has {chip.axes} sides')
        return generation, sides
    count = int(found[2])
    chips, rest = divmod(count, 2 if chip.cores_in_name else 1)
    sizes = _sizes(generation)
    if rest or chips not in sizes:
        counts = [size * (2 if chip.cores_in_name else 1) for size in sizes]
        close = sorted(counts, key=lambda other: abs(other - count))[:4]
        what = 'cores, two a chip' if chip.cores_in_name else 'chips'
        raise InputError(
            f'--topology={name}: {generation} has no slice of {count} ({what}); near it: '
            f'{", ".join(f"{generation}-{size}" for size in sorted(close))}'
        )
    return generation, sizes[chips]


def _sizes(generation: str) -> dict[int, tuple[int, ...]]:
    """Chips → sides of the slices of a generation."""
    largest = _LARGEST[generation]
    if CHIPS[generation].axes == 2:
        absent = (1, 8, 32) if CHIPS[generation].cores_in_name else ()
        return {n: sides for n, sides in _FLAT.items() if n <= largest and n not in absent}
    found: dict[int, tuple[int, ...]] = dict(_SMALL_CUBOIDS)
    fours = range(4, 33, 4)
    for sides in itertools.combinations_with_replacement(fours, 3):
        chips = math.prod(sides)
        if chips <= largest and sum(sides) < sum(found.get(chips, (99, 99, 99))):
            found[chips] = sides
    return found


def open_slice(name: str) -> Slice:
    """The slice of this name, for compiling only: no TPU is touched, nothing is asked of a network.

    Raises:
      InputError: there is no such slice, or libtpu is not installed.
    """
    generation, sides = parse(name)
    os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
    os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
    os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5litepod-4')  # else libtpu warns, and asks
    os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
    chip = CHIPS[generation]
    try:
        description = topologies.get_topology_desc(
            platform='tpu',
            topology_name=f'{chip.libtpu}:{"x".join(map(str, sides))}',
            chip_config_name='megacore' if chip.axes == 3 else 'default',
            chips_per_host_bounds=tuple(min(2, side) for side in (*sides, 1)[:3]),
        )
    except Exception as error:  # of several kinds, from C++
        reason = ' '.join(str(error).split())[:200]
        raise InputError(
            f'--topology={name}: cannot be compiled for: {reason} (the compiler for TPUs is '
            "libtpu: pip install 'big_ssl[tpu]'; with it, JAX_PLATFORMS=cpu keeps other runs on "
            'the CPU)'
        ) from None
    return Slice(chip, tuple(description.devices))
