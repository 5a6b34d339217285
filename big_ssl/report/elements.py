"""What several pictures are put together from: names that fit, rows with whiskers, legends."""

import functools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from big_ssl.report.style import SMALL, Look

_KEY = 0.65  # inches of a legend's handle and the gaps beside it


def rows(table: pd.DataFrame) -> Iterable[Any]:
    """Rows with an attribute for each column."""
    return table.itertuples(index=False)


def number(value: float, low: float = np.nan, high: float = np.nan, sign: str = '') -> str:
    """A figure with its interval, as far as they are known; with sign '+', always signed."""
    if math.isnan(value):
        return 'not known'
    texts = [f'{each:{sign}.3f}'.replace('-', '\N{MINUS SIGN}') for each in (value, low, high)]
    return texts[0] if math.isnan(low + high) else f'{texts[0]}  [{texts[1]}, {texts[2]}]'


def fitted(name: str, inches: float, size: float = SMALL, lines: int = 2) -> str:
    """The name in lines no wider than that in DejaVu Sans, cut by '…' where they do not suffice."""
    for columns in range(min(len(name), int(inches * 72 / (0.25 * size))), 1, -1):
        rows = textwrap.wrap(name, columns)
        if len(rows) > lines:
            rows = [*rows[: lines - 1], rows[lines - 1][: columns - 1].rstrip() + '…']
        if all(_inches(row, size) <= inches for row in rows):
            return '\n'.join(rows)
    return name[:1]


@functools.lru_cache(10_000)
def _inches(text: str, size: float) -> float:
    font = FontProperties(family='DejaVu Sans', size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def legend(figure: Figure, handles: list[Any], names: list[str], below: bool = False) -> None:
    """A legend above or below all panels, in as many columns as names fit; the figure grows."""
    room = figure.get_figwidth() - 0.3
    texts = [fitted(name, room - _KEY) for name in names]
    widest = max(_inches(line, SMALL) for text in texts for line in text.split('\n'))
    rows = -(-len(names) // max(1, int(room / (widest + _KEY))))
    lines = rows + sum(text.count('\n') for text in texts)
    figure.set_figheight(figure.get_figheight() + 0.21 * lines + 0.1)
    figure.legend(
        handles,
        texts,
        loc='outside lower left' if below else 'outside upper left',
        ncols=-(-len(names) // rows),
        fontsize=SMALL,
        handlelength=2.2,
        columnspacing=1.2,
    )


def note(figure: Figure, text: str) -> None:
    """Small print below all panels; the figure grows."""
    written = fitted(text, figure.get_figwidth() - 0.4, lines=99)
    figure.set_figheight(figure.get_figheight() + 0.16 * (written.count('\n') + 1) + 0.1)
    figure.supxlabel(written, x=0.02, ha='left', fontsize=SMALL, color='#444444')


def keys(looks_of: Mapping[str, Look], marker: bool = True, line: bool = True) -> list[Line2D]:
    """Handles of a legend."""
    return [
        Line2D([], [], color=each.colour, ls=each.line if line else '', marker=each.marker * marker)
        for each in looks_of.values()
    ]


def interval(
    axes: Axes, y: float, value: float, low: float, high: float, drawn: Look, filled: bool = True
) -> None:
    """A dot with a horizontal whisker, without it if an end is NaN; nothing if the value is."""
    if math.isnan(value):
        return
    axes.plot([low, high], [y, y], color=drawn.colour, linewidth=2, solid_capstyle='butt')
    face = drawn.colour if filled else 'white'
    axes.plot(value, y, drawn.marker, color=drawn.colour, markerfacecolor=face, markersize=6.5)


def name_rows(axes: Axes, names: Sequence[str], places: Sequence[float], inches: float) -> None:
    """Names at the left of horizontal rows, the first on top, each in two lines at most."""
    texts = [fitted(name, inches) for name in names]
    axes.set_yticks(places, texts, fontsize=SMALL)
    axes.grid(visible=False, axis='y')
    axes.tick_params(axis='y', length=0)


def beside(axes: Axes, y: float, text: str) -> None:
    """Writes at the right of the row at `y`, outside the axes."""
    place: Any = {'xycoords': ('axes fraction', 'data'), 'va': 'center', 'fontsize': SMALL}
    axes.annotate(text, (1.03, y), annotation_clip=False, **place)


def panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A grid of `count` panels of that size in inches; cells left over are empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def unit_limits(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
