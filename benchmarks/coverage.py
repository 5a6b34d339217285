"""How often 95% intervals hold the truth, and how often tests find what is not there.

  python -m benchmarks.coverage [--trials=2000] [--quick] [--out=docs/coverage.md]

Simulated patients of 1 to 10 cases each (`simulated_patients`). The truth is the figure of many
more patients. A cell with a figure outside of what is asked is simulated again, five times as
often, and that counts. Seeds of the simulation are fixed: the same command gives the same table.
"""

import argparse
import dataclasses
import multiprocessing
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.stats

from benchmarks.simulated_patients import (
    CASES,
    MIDDLING,
    PERFECT,
    Cell,
    Data,
    drawn,
    interval_cells,
    metrics_of,
    seed_cells,
    test_cells,
    two_seed_cells,
)
from big_ssl.evaluation import comparison, permutation
from big_ssl.evaluation.comparison import Metric

_POPULATION = 60_000  # patients, for the truth
_AGAIN = 5  # times as many trials, where chance may have put a figure outside


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Of one figure in one cell, in per cent of the trials with an interval; widths are means."""

    cell: Cell
    metric: str
    truth: float
    held: float
    above: float
    below: float
    width: float
    refused: float

    @property
    def asked(self) -> bool:
        return 93.5 <= self.held <= 98 or (self.cell.patients < 10 and self.held >= 93)


def coverage(cell: Cell, trials: int) -> list[Coverage]:
    """Intervals of one method in a cell."""
    random = np.random.default_rng(zlib.crc32(cell.name.encode()))
    known = metrics_of(cell)
    truth = {name: _truth(cell, metric) for name, metric in known.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in known}
    for _ in range(trials):
        data = drawn(cell, random)
        for name, metric in known.items():
            interval = _interval(metric, data, range(cell.runs))
            if interval is not None:
                found[name].append(interval)
    return [_coverage(cell, name, truth[name], found[name], trials) for name in known]


@dataclasses.dataclass(frozen=True)
class Rejections:
    """How often a paired test of two methods has p < 0.05, in per cent, by metric."""

    cell: Cell
    metric: str
    rejected: float
    refused: float

    @property
    def asked(self) -> bool:
        return 3 <= self.rejected <= 6.5


def rejections(cell: Cell, trials: int, better: float = 0.0) -> list[Rejections]:
    """Paired tests of two methods; the first one's own classes stand out by `better` more."""
    random = np.random.default_rng(zlib.crc32(cell.name.encode()) + 1)
    known = metrics_of(cell)
    p: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(trials):
        data = drawn(cell, random, methods=2)
        marked = data.labels if cell.several else np.eye(cell.classes)[data.labels]
        scores = data.scores + better * marked * np.array([1, 0])[:, None, None, None]
        for name, metric in known.items():
            value = _p_value(metric, data, scores, range(cell.runs))
            p[name].append(value)
    return [_rejections(cell, name, np.array(p[name])) for name in known]


def permutation_rejections(cell: Cell, trials: int) -> list[Rejections]:
    """The same of the permutation test of two models."""
    random = np.random.default_rng(zlib.crc32(cell.name.encode()) + 2)
    known = metrics_of(cell)
    p: dict[str, list[float]] = {name: [] for name in known}
    for trial in range(trials):
        data = drawn(cell, random, methods=2)
        for name, metric in known.items():
            a, b = data.scores[:, 0]
            p[name].append(
                permutation.permutation_p(
                    data.labels, a, b, data.patients, metric, permutations=256, seed=trial
                )
            )
    return [_rejections(cell, name, np.array(p[name])) for name in known]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.coverage',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--trials', type=int, default=2000, help='of each cell')
    parser.add_argument('--quick', action='store_true', help='a few cells')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--out', help='a Markdown file')
    flags = parser.parse_args(arguments)
    quick, trials = flags.quick, flags.trials
    cell = Cell(200, 3, True, 0.4, MIDDLING, runs=3, agreement=0.5)
    jobs: list[tuple[str, Callable[..., list], Cell, int, dict]] = [
        *(('one', coverage, each, trials, {}) for each in interval_cells(quick)),
        *(('seeds', coverage, each, trials, {}) for each in seed_cells(quick)),
        *(('test', rejections, each, trials, {}) for each in test_cells(quick)),
        *(('test seeds', rejections, each, trials, {}) for each in seed_cells(quick)),
        *(('test two seeds', rejections, each, trials, {}) for each in two_seed_cells(quick)),
        *((f'power:{b}', rejections, cell, trials, {'better': b}) for b in (0.05, 0.1, 0.15)),
        *(
            (
                'permutation',
                permutation_rejections,
                Cell(n, 3, True, 0.5, MIDDLING),
                trials // 2,
                {},
            )
            for n in ((8, 12, 30) if not quick else (12,))
        ),
    ]
    parts: dict[str, list] = {}
    with multiprocessing.get_context('spawn').Pool(flags.processes) as pool:
        for number, (part, found) in enumerate(pool.imap(_run, jobs), start=1):
            parts.setdefault(part, []).extend(found)
            print(f'{number}/{len(jobs)} {found[0].cell.name}', file=sys.stderr, flush=True)
    text = _page(parts, trials)
    print(text)
    if flags.out:
        Path(flags.out).parent.mkdir(parents=True, exist_ok=True)
        Path(flags.out).write_text(text)
    return 0


def _run(job: tuple[str, Callable[..., list], Cell, int, dict]) -> tuple[str, list]:
    part, function, cell, trials, settings = job
    found = function(cell, trials, **settings)
    outside = any(not one.asked and one.refused < 50 for one in found)
    if outside and not part.startswith('power') and cell.mark != PERFECT:
        found = function(cell, _AGAIN * trials, **settings)
    return part, found


def _truth(cell: Cell, metric: Metric) -> float:
    """The figure of many patients, of runs of mean quality where they differ."""
    positives = _POPULATION // 2 if cell.rare else 0
    many = dataclasses.replace(cell, patients=_POPULATION, rare=positives, runs=1, agreement=1.0)
    marks = cell.mark + cell.seed_effect * scipy.stats.norm.ppf((np.arange(20) + 0.5) / 20)
    values = []
    for mark in marks if cell.seed_effect else [cell.mark]:
        one = dataclasses.replace(many, mark=float(mark), seed_effect=0.0)
        data = drawn(one, np.random.default_rng(0))
        once = np.ones((1, len(data.labels)))
        values.append(metric.values(data.labels, data.scores[0, 0], once)[0])
    return float(np.mean(values))


def _interval(metric: Metric, data: Data, runs: range) -> tuple[float, float] | None:
    if not _defined(metric, data):
        return None
    found = comparison.method_interval(
        data.labels, data.scores[0], data.patients, metric, pretraining=runs
    )
    return None if np.isnan(found.low) else (found.low, found.high)


def _p_value(metric: Metric, data: Data, scores: np.ndarray, runs: range) -> float:
    if not _defined(metric, data):
        return float('nan')
    settings = {'pretraining_a': runs, 'pretraining_b': runs}
    return comparison.paired_difference(data.labels, *scores, data.patients, metric, **settings).p


def _defined(metric: Metric, data: Data) -> bool:
    """Whether all classes occur: another figure would be meant."""
    if data.labels.ndim == 2:
        return True
    return len(np.unique(data.labels)) == data.scores.shape[-1]


def _coverage(
    cell: Cell, name: str, truth: float, found: list[tuple[float, float]], trials: int
) -> Coverage:
    low, high = np.array(found).T if found else np.full((2, 1), np.nan)
    above, below = 100 * np.mean(truth < low - 1e-9), 100 * np.mean(truth > high + 1e-9)
    held = 100 - above - below if found else float('nan')
    refused = 100 * (1 - len(found) / trials)
    return Coverage(cell, name, truth, held, above, below, float(np.mean(high - low)), refused)


def _rejections(cell: Cell, name: str, p: np.ndarray) -> Rejections:
    known = p[~np.isnan(p)]
    rejected = 100 * float((known < 0.05).mean()) if len(known) else float('nan')
    return Rejections(cell, name, rejected, 100 * (1 - len(known) / len(p)))


_ABOUT = """# What the intervals and tests are worth

Made by `python -m benchmarks.coverage`: {trials} simulated samples a row (standard error of a
coverage of 95%: {error:.1f} points), {more} where those fell outside of what is asked; patients of
{low} to {high} cases. An interval should hold the truth in 95 of 100 samples, a test should reject
a true null in 5 of 100. Asked for: coverage of 93.5 to 98% from ten patients on and of at least 93%
from eight on; 3 to 6.5% of true nulls rejected. What is outside of that is in bold.

"No interval" is the share of samples with a class that fewer than four patients stand behind, or
that one or two of them make up: so few say nothing of how much patients differ, and then neither an
interval nor a test is given.

What is held more often than asked is a figure near 1 (of ten patients, who are alike, 0.86 is), or
one with five or ten positive patients. Its interval cannot lie beyond it, so it can only miss at
one end, of which it is allowed 2.5%: 97.5% is what it should be. Where few are positive nearly
every sample then holds the truth: the interval of a perfect figure must reach down to what the same
patients could hide, and that of a worse one may not end above it. The truth of a perfect classifier
is always held.
"""
_TITLES = {
    'one': 'Intervals of one model',
    'seeds': 'Intervals of a method with several seeds',
    'test': 'Paired tests of two models, no difference',
    'test seeds': 'Paired tests of two methods with several seeds, no difference',
    'power': 'Power: the first method better by {0} deviations of the scores',
    'test two seeds': 'The same with two seeds, which tell little about seeds',
    'permutation': 'Permutation tests of two models, no difference',
}


def _page(parts: dict[str, list], trials: int) -> str:
    """All tables as Markdown: the range of each part, then every cell."""
    error = 100 * np.sqrt(0.95 * 0.05 / trials)
    about = {'trials': trials, 'more': _AGAIN * trials, 'error': error}
    lines = [_ABOUT.format(**about, low=CASES[0], high=CASES[1])]
    lines += ['| | rows | lowest | highest | outside what was asked |', '|---|---|---|---|---|']
    for part, found in parts.items():
        judged = [one for one in found if one.refused < 50]
        values = [_value(one) for one in judged]
        outside = '' if part.startswith('power') else sum(not one.asked for one in judged)
        title = _title(part)
        lines.append(
            f'| {title} | {len(judged)} | {min(values):.1f} | {max(values):.1f} | {outside} |'
        )
    for part, found in parts.items():
        lines += ['', f'## {_title(part)}', '']
        if isinstance(found[0], Coverage):
            lines += [
                '| data | figure | truth | held | missed above + below | width | no interval |',
                '|---|---|---|---|---|---|---|',
            ]
        else:
            lines += ['| data | figure | p < 0.05 | no test |', '|---|---|---|---|']
        lines += [_row(one, marked=not part.startswith('power')) for one in found]
    return '\n'.join([*lines, ''])


def _title(part: str) -> str:
    name, _, rest = part.partition(':')
    return _TITLES[name].format(rest)


def _value(one: Coverage | Rejections) -> float:
    return one.held if isinstance(one, Coverage) else one.rejected


def _row(one: Coverage | Rejections, marked: bool) -> str:
    """A cell; a value outside of what was asked is in bold."""
    value = f'{_value(one):.1f}'
    if marked and not one.asked and one.refused < 50:
        value = f'**{value}**'
    cells = [one.cell.name, one.metric]
    if isinstance(one, Coverage):
        cells += [f'{one.truth:.3f}', value, f'{one.above:.1f} + {one.below:.1f}']
        cells += [f'{one.width:.3f}']
    else:
        cells += [value]
    return f'| {" | ".join([*cells, f"{one.refused:.0f}%"])} |'


if __name__ == '__main__':
    sys.exit(main())
