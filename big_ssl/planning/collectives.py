"""What a compiled program sends between its devices, read from its text (XLA's HLO)."""

import collections
import dataclasses
import re
from collections.abc import Iterator

from big_ssl.planning.hlo import INSTRUCTION, array_bytes

KINDS = ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.\-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclasses.dataclass(frozen=True)
class Collectives:
    """What one device takes part in during one run of a program.

    Attributes:
      count: of operations, by kind.
      payload: bytes of their arrays on one device, by kind: the result of an all-gather, the
        operand of a reduce-scatter, either of the others.
      sent: bytes that one device sends if each kind goes round a ring of all devices: (n - 1) / n
        of the payload, twice that for an all-reduce, all of it for a permutation (Patarasuk and
        Yuan 2009, Bandwidth optimal all-reduce algorithms, section 3).
      complete: whether every loop with collectives in it said how often it runs; else they are
        counted once.
    """

    count: dict[str, int]
    payload: dict[str, int]
    sent: float
    complete: bool


@dataclasses.dataclass
class _Computation:
    own: collections.Counter
    payload: collections.Counter
    calls: list[tuple[str, int | None]]  # how often; None: not known


def collectives_of(text: str, devices: int) -> Collectives:
    """Counts the collectives of a program, those in loops as often as they run.

    Args:
      text: of the compiled program (`compiled.as_text()`).
      devices: that it runs on.

    Raises:
      ValueError: the text has no entry.
    """
    computations, entry = _parse(text, devices)
    count: collections.Counter = collections.Counter()
    payload: collections.Counter = collections.Counter()
    complete = True

    def visit(name: str, times: int) -> None:
        nonlocal complete
        found = computations[name]
        for kind, number in found.own.items():
            count[kind] += times * number
            payload[kind] += times * found.payload[kind]
        for callee, trips in found.calls:
            complete &= trips is not None or not _has_collectives(callee, computations)
            visit(callee, times * (trips or 1))

    visit(entry, 1)
    part = (devices - 1) / devices
    share = {'all-reduce': 2 * part, 'collective-permute': 1.0}
    sent = sum(size * share.get(kind, part) for kind, size in payload.items())
    return Collectives(dict(count), dict(payload), sent, complete)


def _has_collectives(name: str, computations: dict[str, _Computation]) -> bool:
    found = computations[name]
    return bool(found.own) or any(_has_collectives(c, computations) for c, _ in found.calls)


def _parse(text: str, devices: int) -> tuple[dict[str, _Computation], str]:
    bodies: dict[str, list[str]] = {}
    entry = ''
    for name, is_entry, lines in _computations(text):
        bodies[name] = lines
        entry = name if is_entry else entry
    if not entry:
        raise ValueError('not the text of an HLO module: it has no entry')
    return {name: _computation(lines, bodies, devices) for name, lines in bodies.items()}, entry


def _computations(text: str) -> Iterator[tuple[str, bool, list[str]]]:
    lines: list[str] | None = None
    for line in text.splitlines():
        if (start := _COMPUTATION.match(line)) is not None:
            lines = []
            yield start[2], bool(start[1]), lines
        elif line.startswith('}'):
            lines = None
        elif lines is not None:
            lines.append(line)


def _computation(lines: list[str], bodies: dict[str, list[str]], devices: int) -> _Computation:
    found = _Computation(collections.Counter(), collections.Counter(), [])
    for line in lines:
        if (parts := INSTRUCTION.match(line)) is None:
            continue
        _, shape, operation, rest = parts.groups()
        kind = operation.removesuffix('-start')
        if kind in KINDS:
            found.own[kind] += 1
            found.payload[kind] += _payload(shape, kind, operation != kind, devices)
            continue  # what it applies is an addition of two numbers
        trips: int | None = _trips(line, bodies) if operation == 'while' else 1
        called = _CALLED.findall(rest)
        for branches in _BRANCHES.findall(rest):
            called += [name.strip().lstrip('%') for name in branches.split(',')]
        found.calls += [(name, trips) for name in called if name in bodies]
    return found


def _payload(shape: str, kind: str, started: bool, devices: int) -> int:
    sizes = array_bytes(shape)
    if started and kind in ('all-gather', 'collective-permute'):
        return max(sizes)  # of operand, result and context
    return sum(sizes) * (devices if kind == 'reduce-scatter' else 1)


def _trips(line: str, bodies: dict[str, list[str]]) -> int | None:
    """How often a loop runs: as the compiler says, or the bound that its condition compares with.

    Loops that count from 0 in ones, as `jax.lax.scan`'s do, are the only ones whose condition is a
    comparison of less-than with a constant.
    """
    if known := _TRIPS.search(line):
        return int(known[1])
    condition = re.search(r'condition=%?([\w.\-]+)', line)
    lines = bodies.get(condition[1], []) if condition else []
    constants: dict[str, int] = {}
    for each in lines:
        if constant := re.search(r'%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)', each):
            constants[constant[1]] = int(constant[2])
    for each in lines:
        compare = re.search(r'compare\([^,]+, %?([\w.\-]+)\), direction=LT', each)
        if 'ROOT' in each and compare and compare[1] in constants:
            return constants[compare[1]]
    return None
