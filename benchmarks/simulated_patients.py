"""Simulated patients, and the kinds of them over which `benchmarks.coverage` goes.

A case's scores are its class's mark, what all cases of its patient share, and an error of its own;
runs of a method share a part of both errors (their agreement) and may differ in quality (the effect
of seeds).
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from big_ssl.evaluation import comparison
from big_ssl.evaluation.comparison import Metric

CASES = (1, 10)
RANDOM, MIDDLING, GOOD, PERFECT = 0.0, 1.5, 3.0, 50.0  # the mark of a case's own class
_CLASSIFIERS = {RANDOM: 'random', MIDDLING: 'middling', GOOD: 'good', PERFECT: 'perfect'}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One kind of data.

    Attributes:
      patients: how many.
      classes: one of them a case, equally frequent.
      shared: a patient's cases may be of different classes; else all are of one.
      patient_effect: share of the scores' variance that a patient's cases have in common.
      mark: how far the own class stands out, in deviations of the scores.
      several: any number of classes a case, each in 30% of them.
      rare: of two classes, so many patients have the first; 0: equally frequent.
      runs: of each method.
      agreement: share of the variance of the errors that runs of a method have in common.
      seed_effect: deviation of `mark` between runs.
    """

    patients: int
    classes: int
    shared: bool
    patient_effect: float
    mark: float
    several: bool = False
    rare: int = 0
    runs: int = 1
    agreement: float = 1.0
    seed_effect: float = 0.0

    @property
    def name(self) -> str:
        parts = [f'{self.patients} patients']
        if self.rare:
            parts.append(f'{self.rare} of them positive')
        else:
            kind = 'labels at once' if self.several else 'classes'
            parts.append(f'{self.classes} {kind}, {"shared" if self.shared else "one a patient"}')
        parts.append(f'patient effect {self.patient_effect:g}')
        parts.append(_CLASSIFIERS.get(self.mark, f'mark {self.mark:g}'))
        if self.runs > 1:
            parts.append(f'{self.runs} seeds, agreement {self.agreement:g}')
            parts.append(f'seed effect {self.seed_effect:g}')
        return ', '.join(parts)


@dataclasses.dataclass(frozen=True)
class Data:
    """Labels [n] or [n, k], patient of each case [n], and scores [methods, runs, n, k]."""

    labels: np.ndarray
    patients: np.ndarray
    scores: np.ndarray


def drawn(cell: Cell, random: np.random.Generator, methods: int = 1) -> Data:
    """A sample; with several methods their errors have nothing in common but the patients."""
    sizes = random.integers(CASES[0], CASES[1] + 1, cell.patients)
    patients = np.repeat(np.arange(cell.patients), sizes)
    n, k = len(patients), cell.classes
    if cell.rare:
        labels = (patients < cell.rare).astype(int)
    elif cell.several:
        labels = (random.random((n if cell.shared else cell.patients, k)) < 0.3).astype(float)
        labels = labels if cell.shared else labels[patients]
    else:
        labels = random.integers(0, k, n if cell.shared else cell.patients)
        labels = labels if cell.shared else labels[patients]
    marked = labels if cell.several else labels[:, None] == np.arange(k)
    scores = np.empty((methods, cell.runs, n, k))

    def errors() -> np.ndarray:
        of_patients = random.standard_normal((cell.patients, k))[patients]
        own = random.standard_normal((n, k))
        return np.sqrt(cell.patient_effect) * of_patients + np.sqrt(1 - cell.patient_effect) * own

    for method in range(methods):
        common = np.sqrt(cell.agreement) * errors()
        for run in range(cell.runs):
            mark = cell.mark + cell.seed_effect * random.standard_normal()
            own = np.sqrt(1 - cell.agreement) * errors() if cell.agreement < 1 else 0
            scores[method, run] = mark * marked + common + own
    return Data(labels, patients, scores)


def metrics_of(cell: Cell) -> dict[str, Metric]:
    """The figures that are judged in a cell."""
    if cell.rare:
        return {'auc': comparison.auc_of(1)}
    macro = {'macro AUC': comparison.macro_auc(range(cell.classes))}
    if cell.several:
        return macro
    return {
        'top-1': comparison.top1,
        'balanced accuracy': comparison.balanced_accuracy,
        **macro,
    }


def interval_cells(quick: bool) -> Iterator[Cell]:
    """Cells for `coverage`, of one run."""
    layouts = [(2, True), (3, False), (8, True)]
    counts = (8, 10, 20, 50, 200)
    if quick:
        layouts, counts = [(3, True)], (10, 50)
    for n, (k, shared), effect, mark in itertools.product(
        counts, layouts, (0.0, 0.5, 0.9), (RANDOM, MIDDLING, GOOD)
    ):
        if n >= (k if shared else 6 * k):
            yield Cell(n, k, shared, effect, mark)
    for n, effect in itertools.product(counts, (0.0, 0.5, 0.9)):
        if n >= 10:
            yield Cell(n, 8, True, effect, MIDDLING, several=True)
    for positives, effect, mark in itertools.product(
        (5, 10), (0.0, 0.9), (RANDOM, 1.0, MIDDLING, GOOD)
    ):
        yield Cell(200, 2, False, effect, mark, rare=positives)
    for n in counts:
        yield Cell(n, 3, True, 0.5, PERFECT)
    yield Cell(200, 2, False, 0.5, PERFECT, rare=5)


def seed_cells(quick: bool, mark: float = MIDDLING) -> Iterator[Cell]:
    """Cells of several runs, for `coverage` and `rejections`."""
    sizes = ((8, 3), (30, 3), (200, 3), (200, 5)) if not quick else ((30, 3),)
    for (n, runs), agreement, seeds in itertools.product(sizes, (0.0, 0.5, 0.8), (0.0, 0.1, 0.3)):
        yield Cell(n, 3, True, 0.4, mark, runs=runs, agreement=agreement, seed_effect=seeds)


def two_seed_cells(quick: bool) -> Iterator[Cell]:
    """The fewest runs that show what seeds do, for `rejections`."""
    for n, effect in itertools.product((30, 200) if not quick else (30,), (0.0, 0.1, 0.2, 0.3)):
        yield Cell(n, 3, True, 0.4, MIDDLING, runs=2, agreement=0.5, seed_effect=effect)


def test_cells(quick: bool) -> Iterator[Cell]:
    """Cells of one run for `rejections`."""
    counts = (8, 12, 30, 200) if not quick else (12,)
    for n, (k, shared), effect in itertools.product(
        counts, ((2, True), (4, True), (8, True), (3, False)), (0.0, 0.5, 0.9)
    ):
        if n >= (k if shared else 6 * k):
            yield Cell(n, k, shared, effect, MIDDLING)
    for n in counts:
        yield Cell(n, 8, True, 0.5, MIDDLING, several=True)
