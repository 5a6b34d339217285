"""Pictures of what a study was made with: its classes and its search for settings.

Each function takes a table with the columns named in its docstring: the table is the picture's
data. Names keep the order of a categorical column, else that of appearance.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from big_ssl.report import elements, style
from big_ssl.report.style import COLOURS, SMALL, WIDTH, looks

_HATCHES = ('', '////', '....', 'xxxx')
_MAP = 'cividis'  # Nunez et al. 2018: read alike with and without colour blindness


@style.drawing
def class_frequencies(counts: pd.DataFrame) -> Figure:
    """Bars for the share of each class, a bar for each split, with counts written.

    Args:
      counts: class, split, count, share (of the split's cases, up to 1).
    """
    classes, splits = list(looks(counts['class'])), looks(counts['split'])
    thick = 0.85 / len(splits)
    figure = Figure(figsize=(WIDTH, 0.6 + max(0.36, 0.19 * len(splits)) * len(classes)))
    axes = figure.subplots()
    keys = []
    for i, (split, drawn) in enumerate(splits.items()):
        own = counts[counts['split'] == split]
        places = [
            classes.index(name) + thick * (i - (len(splits) - 1) / 2) for name in own['class']
        ]
        form: Any = {'facecolor': drawn.colour, 'edgecolor': 'white', 'hatch': _HATCHES[i % 4]}
        bars = axes.barh(places, own['share'], 0.92 * thick, **form)
        texts = [f'{_share(row.share)} ({row.count:,})' for row in elements.rows(own)]
        axes.bar_label(bars, texts, padding=3, fontsize=8)
        keys.append(Patch(**form))
    elements.name_rows(axes, classes, range(len(classes)), 1.9)
    axes.set(xlabel='share of the cases', ylim=(len(classes) - 0.4, -0.6))
    largest = max(np.nan_to_num(counts['share'].max()), 1e-3)
    ticks = MaxNLocator(4).tick_values(0, largest)
    axes.set_xticks(ticks, [f'{100 * tick:.3g}%' for tick in ticks])
    axes.set_xlim(0, 1.55 * largest)  # room for what is written behind the bars
    elements.legend(figure, keys, list(splits))
    return figure


@style.drawing
def search(
    trials: pd.DataFrame,
    label: str,
    x: str = 'learning_rate',
    y: str = 'weight_decay',
    lowest: bool = False,
    limits: tuple[float, float] | None = None,
) -> Figure:
    """What was tried: a cell for each pair of settings with its figure, the best one framed.

    Args:
      trials: the settings named by `x` and `y`, one row a pair, and value; NaN: it diverged.
        A pair without a row was not tried, its cell is empty.
      label: name of the value.
      lowest: the lowest value is the best.
      limits: ends of the colours, where several pictures are to be read side by side; else those
        of the values.
    """
    grid = trials.pivot(index=y, columns=x, values='value').sort_index(ascending=False)
    values = np.where(np.isfinite(grid), grid, np.nan)
    rows, columns = values.shape
    figure = Figure(figsize=(max(3.6, 1.5 + 0.66 * columns), max(1.9, 1.1 + 0.4 * rows)))
    axes = figure.subplots()
    shown = axes.imshow(values, _MAP, aspect='auto')
    finite = values[np.isfinite(values)]
    shown.set_clim(limits or ((finite.min(), finite.max()) if len(finite) else (0, 1)))
    places = zip(
        grid.index.get_indexer(pd.Index(trials[y])), grid.columns.get_indexer(pd.Index(trials[x]))
    )
    for row, column in places:
        _cell(axes, int(row), int(column), values[row, column])
    if len(finite):
        best = np.nanargmin(values) if lowest else np.nanargmax(values)
        row, column = divmod(int(best), columns)
        place = (column - 0.46, row - 0.46)
        axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor=COLOURS[1], linewidth=3))
    axes.set_xticks(range(columns), [f'{value:.3g}' for value in grid.columns], fontsize=SMALL)
    axes.set_yticks(range(rows), [f'{value:.3g}' for value in grid.index], fontsize=SMALL)
    axes.set(xlabel=x.replace('_', ' '), ylabel=y.replace('_', ' '))
    title = elements.fitted(f'{label}; the best is framed', figure.get_figwidth() - 0.3, 10)
    figure.suptitle(title, x=0.03, ha='left', fontsize=10)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return figure


def _share(value: float) -> str:
    if np.isnan(value):
        return 'not known'
    return '<0.1%' if 0 < value < 0.0005 else f'{value:.1%}'


def _cell(axes: Axes, row: int, column: int, value: float) -> None:
    """Writes the figure, or hatches the cell of a run that diverged."""
    if np.isnan(value):
        place = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(place, 1, 1, facecolor='#EDEDED', edgecolor='white', hatch='///'))
        text, colour = 'diverged', '#222222'
    else:
        text = f'{value:.3f}'
        brightness = np.dot(axes.images[0].to_rgba(np.array(value))[:3], (0.299, 0.587, 0.114))
        colour = '#111111' if brightness > 0.5 else 'white'
    axes.text(column, row, text, ha='center', va='center', fontsize=8.5, color=colour)
