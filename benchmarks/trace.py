"""Device time by kind of work, from a profile of the compiled step.

Every instruction of the compiled program has the name of what it was made of
(`jit(step)/jvp(ContrastiveNetwork)/encoder/stage1/block1/bn1/mul`), and every kernel in a profile
the name of its instruction. What the compiler fused is one kernel, with the name of the fusion's
last operation: a normalisation that ends in a ReLU is called a ReLU. Where that name says nothing,
the kind that most of what was fused is of counts; attribution stays that of whole kernels. Copies
that the compiler adds to change a layout have no name at all.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jax.profiler import ProfileData

KINDS = ('convolution', 'normalisation', 'augmentation', 'loss', 'optimiser', 'projection', 'other')
UNNAMED, UNKNOWN = 'unnamed', 'not attributed'
_SCOPES = {'augment': 'augmentation', 'loss': 'loss', 'optimizer': 'optimiser'}
_LAYERS = (
    (re.compile(r'(bn|gn)(\d+|_\w+)'), 'normalisation'),
    (re.compile(r'conv(\d+|_\w+)'), 'convolution'),
    (re.compile(r'dense\d+'), 'projection'),
)
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = ')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r'calls=%?([\w.\-]+)')
_COMPUTES_NOTHING = re.compile(
    r' (?:parameter|constant|tuple|get-tuple-element|bitcast|broadcast)\('
)
_ROUNDING = 1e-9  # seconds
_HOLDS_OTHERS = re.compile(r' (?:while|conditional)\(')
_CONVOLVES = re.compile(r' convolution\(|custom_call_target="__cudnn\$conv')  # named or not


class Kernel(NamedTuple):
    """One run of an instruction."""

    instruction: str
    start: float
    seconds: float

    @property
    def end(self) -> float:
        return self.start + self.seconds


def kind_of(op_name: str) -> str:
    """One of KINDS, or UNNAMED."""
    words = re.split(r'[/()]+', op_name)
    for scope, kind in _SCOPES.items():
        if scope in words:
            return kind
    for word in reversed(words):
        for layer, kind in _LAYERS:
            if layer.fullmatch(word):
                return kind
    return 'other' if any(words) else UNNAMED


def kinds_of(program: str) -> dict[str, str]:
    """The kind of each instruction of a compiled program; loops, which hold others, are left out.

    Args:
      program: as `compiled.as_text()` gives it.
    """
    names: dict[str, str] = {}
    called: dict[str, str] = {}
    inside: dict[str, Counter[str]] = defaultdict(Counter)
    computation = ''
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            computation = found[1]
        elif (found := _INSTRUCTION.match(line)) and not _HOLDS_OTHERS.search(line):
            names[found[1]] = _kind_of_line(line)
            if call := _CALLS.search(line):
                called[found[1]] = call[1]
            if not _COMPUTES_NOTHING.search(line):
                inside[computation][names[found[1]]] += 1
    for instruction, computation in called.items():
        if names[instruction] in ('other', UNNAMED):
            telling = Counter(inside[computation])
            del telling['other'], telling[UNNAMED]
            if telling:
                names[instruction] = telling.most_common(1)[0][0]
    return names


def kernels_of(profile: ProfileData) -> Iterator[tuple[str, float]]:
    """What ran, by its instruction ('' where the profile does not say), and its own seconds.

    Of a GPU these are the kernels on its streams, none of which holds others; where there is only a
    CPU, what its threads say that they ran.
    """
    devices = [plane for plane in profile.planes if plane.name.startswith('/device:GPU')]
    for plane in devices:
        lines = list(plane.lines)
        streams = [line for line in lines if line.name.startswith('Stream')]
        for line in streams or [line for line in lines if line.name == 'XLA Ops']:
            for event in line.events:
                yield _instruction(event), event.duration_ns / 1e9
    if not devices:
        threads = (line for p in profile.planes if p.name == '/host:CPU' for line in p.lines)
        for thread in threads:
            ran = [Kernel(_instruction(e), e.start_ns / 1e9, e.duration_ns / 1e9)
                   for e in thread.events]  # fmt: skip
            for kernel, seconds in own_seconds(each for each in ran if each.instruction):
                yield kernel.instruction, seconds


def seconds_by_kind(profile: ProfileData, kinds: dict[str, str], steps: int) -> dict[str, float]:
    """Seconds a step of each kind, the longest first.

    Args:
      profile: of `steps` steps and nothing else.
      kinds: of the instructions, from `kinds_of`; others count as UNKNOWN.
    """
    total: Counter[str] = Counter()
    for instruction, seconds in kernels_of(profile):
        total[kinds.get(instruction, UNKNOWN)] += seconds / steps
    return dict(total.most_common())


def own_seconds(kernels: Iterable[Kernel]) -> Iterator[tuple[Kernel, float]]:
    """Each with its time less that of those that ran within it (loops and calls, on a CPU)."""
    running: list[tuple[Kernel, list[float]]] = []
    for kernel in sorted(kernels, key=lambda each: (each.start, -each.seconds)):
        while running and kernel.start >= running[-1][0].end - _ROUNDING:
            yield _less(*running.pop())
        if running:
            running[-1][1].append(kernel.seconds)
        running.append((kernel, []))
    while running:
        yield _less(*running.pop())


def newest(folder: str) -> ProfileData:
    """The profile that `jax.profiler.trace(folder)` left."""
    paths = Path(folder).rglob('*.xplane.pb')
    return ProfileData.from_file(str(max(paths, key=lambda path: path.stat().st_mtime)))


def _kind_of_line(line: str) -> str:
    op_name = _OP_NAME.search(line)
    kind = kind_of(op_name[1] if op_name else '')
    return 'convolution' if kind == UNNAMED and _CONVOLVES.search(line) else kind


def _less(kernel: Kernel, within: list[float]) -> tuple[Kernel, float]:
    return kernel, max(kernel.seconds - sum(within), 0.0)


def _instruction(event: Any) -> str:
    return next((str(value) for name, value in event.stats if name == 'hlo_op'), '')
