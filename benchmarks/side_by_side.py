"""Ways of doing the same, by turns in one run: machines are noisy, and noise then meets them all.

A way is a function that says what it cost: one of this process (`here`) or of another (`Child`).
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.timing import summary
from big_ssl import processes

_ROOT = Path(__file__).parent.parent


class Cost(NamedTuple):
    """Seconds an item.

    Attributes:
      cpu: of all threads, `system` included.
      wall: that passed.
      system: spent in the kernel.
    """

    cpu: float
    wall: float
    system: float


Way = Callable[[], Cost]
Clocks = Callable[[], Cost]


def clocks() -> Cost:
    """What this process has used so far, and what time it is."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Cost(time.process_time(), time.perf_counter(), used.ru_stime)


def here(work: Callable[[], int], clocks: Clocks = clocks) -> Way:
    """Work in this process as a way.

    Args:
      work: returns how many items it did.
      clocks: read before and after.
    """

    def way() -> Cost:
        before = clocks()
        items = work()
        return Cost(*((end - start) / items for start, end in zip(before, clocks())))

    return way


def alternately(ways: Mapping[str, Way], repeats: int) -> dict[str, list[Cost]]:
    """Costs of every way, `repeats` rounds of one after the other, after a round of warm-up."""
    rounds = [{name: way() for name, way in ways.items()} for _ in range(1 + repeats)]
    return {name: [each[name] for each in rounds[1:]] for name in ways}


def ratio(costs: Sequence[Cost], others: Sequence[Cost], clock: str = 'cpu') -> dict[str, float]:
    """Of costs over those of another way in the same round: median, lowest and highest."""
    pairs = zip(costs, others)
    return summary([getattr(cost, clock) / getattr(other, clock) for cost, other in pairs])


def milliseconds(costs: Mapping[str, Sequence[Cost]]) -> dict[str, dict[str, float]]:
    """`NAME/cpu_ms` and `NAME/wall_ms` of each way: median, lowest and highest."""
    return {
        f'{name}/{clock}_ms': summary([1e3 * getattr(cost, clock) for cost in each])
        for name, each in costs.items()
        for clock in ('cpu', 'wall')
    }


class Child:
    """A way in a process of its own, which lives on between its turns.

    Args:
      module: run as `python -m MODULE ARGUMENTS`; it calls `serve`.
      arguments: for it.

    Attributes:
      about: what it said about itself when it was ready.

    Raises:
      RuntimeError: it ended, here or when called.
    """

    def __init__(self, module: str, *arguments: object) -> None:
        self._name = ' '.join(map(str, (module, *arguments)))
        command = [sys.executable, '-m', module, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.about: dict[str, Any] = self._answer()

    def __call__(self) -> Cost:
        assert self._process.stdin
        print('go', file=self._process.stdin, flush=True)
        return Cost(**self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing more is asked, which ends it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f'{self._name}: exit code {self._process.wait()}')
        return json.loads(line)


def serve(prepare: Callable[[], tuple[Way, Mapping[str, Any]]]) -> None:
    """The other side of `Child`: answers until nothing more is asked.

    Args:
      prepare: returns the way, and what there is to say about it. What it and the way print goes
        to stderr.
    """
    processes.die_with_parent()
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)
    way, about = prepare()
    print(json.dumps(about), file=answers, flush=True)
    for _ in sys.stdin:
        print(json.dumps(way()._asdict()), file=answers, flush=True)
