"""What the parts found: kept in a file, judged by their targets, printed."""

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from big_ssl import processes

Summary = Mapping[str, float]  # median, low, high
_DISTRIBUTIONS = ('jax', 'tensorflow-cpu', 'opencv-python-headless', 'pillow', 'numpy',
                  'lightly', 'torch', 'torchvision')  # fmt: skip
_OF_MACHINE = ('machine', 'versions')
_MEASURES = {
    'cpu_ms': 'CPU ms',
    'wall_ms': 'wall ms',
    'cpu_s': 'CPU s',
    'wall_s': 'wall s',
    'system_share': 'in the kernel',
    'images_per_wall_s': 'images a s',
    'peak_mb': 'peak MB',
    'bytes_per_case': 'bytes a case',
    'peak_bytes_per_case': 'at the peak',
}
_WORSE = {'<=': 'high', '>=': 'low'}  # end of the spread


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure should be: the last part of its name, the relation '<=' or '>=', the limit."""

    figure: str
    relation: str
    limit: float

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.relation == '<=' else value >= self.limit

    def __str__(self) -> str:
        return f'{self.relation} {self.limit:.4g}'


@dataclasses.dataclass(frozen=True)
class Found:
    """What one part found.

    Attributes:
      title: what was done.
      figures: median, low and high by name: `WAY/MEASURE` (of _MEASURES), or a ratio's.
      targets: of some of them.
      notes: what must be known to read them.
    """

    title: str
    figures: Mapping[str, Summary]
    targets: Sequence[Target] = ()
    notes: Sequence[str] = ()


def about_machine() -> dict[str, Any]:
    """Where this runs, and the versions of what is compared."""
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    cores = processes.usable_cores()
    return {
        'machine': f'{cores} cores, {_processor()}, {memory / 2**30:.0f} GiB, {platform.system()}',
        'versions': {'python': platform.python_version(), **dict(_versions())},
    }


def merge(earlier: Mapping[str, Any], part: str, found: Found, about: Mapping[str, Any]) -> dict:
    """Results with a part replaced; those of another machine or other versions are left out.

    Args:
      earlier: results, or {}.
      part: its name, which its figures get in front.
      about: of `about_machine`.
    """
    same = all(earlier.get(key) == about[key] for key in _OF_MACHINE)
    prefix = f'{part}/'
    figures = earlier.get('figures', {}) if same else {}
    targets = earlier.get('targets', []) if same else []
    figures = {name: value for name, value in figures.items() if not name.startswith(prefix)}
    targets = [each for each in targets if not each['what'].startswith(prefix)]
    return {
        **about,
        'date': datetime.date.today().isoformat(),
        'figures': figures | {prefix + name: dict(each) for name, each in found.figures.items()},
        'targets': [*targets, *(_judged(prefix, target, found) for target in found.targets)],
    }


def keep(path: Path, part: str, found: Found, about: Mapping[str, Any]) -> None:
    """Merges a part into the file, which a stop leaves whole."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(merge(earlier, part, found, about), indent=1) + '\n')
    partial.replace(path)


def text(part: str, found: Found) -> str:
    """A part's block of the table: ways with their measures beside each other, then ratios and
    whatever else has a target."""
    lines = [f'{part}: {found.title}', *_table(found.figures)]
    targets = {target.figure: target for target in found.targets}
    judged = [name for name in found.figures if name in targets or not _measure(name)]
    wide = max(map(len, judged), default=0)
    for name in judged:
        line = f'  {name:<{wide}}  {_spread(found.figures[name])}'
        lines.append(line + _verdict(targets.get(name), found.figures[name]))
    return '\n'.join([*lines, *(f'  {note}' for note in found.notes)])


def _judged(prefix: str, target: Target, found: Found) -> dict[str, Any]:
    value = found.figures[target.figure]['median']
    return {
        'what': prefix + target.figure,
        'value': value,
        'target': str(target),
        'met': target.is_met(value),
    }


def _table(figures: Mapping[str, Summary]) -> Iterator[str]:
    measures = [key for key in _MEASURES if any(_measure(name) == key for name in figures)]
    ways = list(dict.fromkeys(name.rpartition('/')[0] for name in figures if _measure(name)))
    if not ways:
        return
    rows = [('', *(_MEASURES[key] for key in measures))]
    for way in ways:
        cells = (figures.get(f'{way}/{key}') for key in measures)
        rows.append((way, *(_spread(cell) if cell else '' for cell in cells)))
    wide = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        yield ('  ' + '  '.join(f'{cell:<{width}}' for cell, width in zip(row, wide))).rstrip()


def _measure(name: str) -> str:
    last = name.rpartition('/')[2]
    return last if last in _MEASURES else ''


def _spread(each: Summary) -> str:
    median, low, high = (_three_digits(each[key]) for key in ('median', 'low', 'high'))
    return median if low == high else f'{median} ({low} to {high})'


def _three_digits(value: float) -> str:
    return f'{value:,.0f}' if value >= 1000 else f'{value:#.3g}'.rstrip('.')


def _verdict(target: Target | None, each: Summary) -> str:
    """Whether the median meets the target, and whether all of the spread does."""
    if target is None:
        return ''
    if not target.is_met(each['median']):
        return f'   target {target}: missed'
    always = target.is_met(each[_WORSE[target.relation]])
    return f'   target {target}: met' + ('' if always else ', not in every round')


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.partition(': ')[2] for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions() -> Iterator[tuple[str, str]]:
    for name in _DISTRIBUTIONS:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
