"""Pictures of what methods, splits or groups of patients reached, with intervals.

Each function takes a table with the columns named in its docstring and draws all of it: the table
is the picture's data. `low` and `high` bound an interval; a NaN leaves its whisker out. Methods,
splits and rows keep the order of a categorical column, else that of appearance.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from big_ssl.report import elements, style
from big_ssl.report.style import GREY, SMALL, WIDTH, Look, look, looks

_WIDE_RANGE = 20  # largest over smallest fraction from which their axis is logarithmic
_APART = 0.09  # of the axis: two fractions that are both written
_NAMES = 1.8  # inches for names at the left of rows
_BAND = '#F3F4F6'


@style.drawing
def label_efficiency(points: pd.DataFrame, label: str, baseline: str = '') -> Figure:
    """What methods reach with a part of the labels: a line with whiskers each.

    Args:
      points: method, fraction (of the labels, up to 1), value, low, high.
      label: name of the value's axis.
      baseline: a method whose value at its largest fraction is drawn across, with its interval;
        it has a line as well if it has more points.
    """
    figure = Figure(figsize=(WIDTH, 4.2))
    axes = figure.subplots()
    known = looks(points['method'])
    _fraction_axis(axes, np.unique(points['fraction']))
    curves = {name: points[points['method'] == name].sort_values('fraction') for name in known}
    handles: list[Any] = []
    names = []
    if baseline in curves:
        last = curves[baseline].iloc[-1]
        handles.append(_across(axes, last, known[baseline].colour))
        names.append(f'{baseline}, {100 * last.fraction:g}% of the labels')
    drawn = [name for name in known if name != baseline or len(curves[name]) > 1]
    for i, name in enumerate(drawn):
        aside = 3 * (i - (len(drawn) - 1) / 2)  # points, so that whiskers do not hide each other
        handles.append(_line(axes, curves[name], known[name], aside))
        names.append(name)
    axes.autoscale_view()
    axes.set_xlabel('labels used for fine-tuning')
    axes.set_ylabel(elements.fitted(label, 3.2, 10))
    elements.legend(figure, handles, names)
    return figure


@style.drawing
def by_split(points: pd.DataFrame, label: str) -> Figure:
    """A dot with a whisker for each method, grouped by split; single runs as small dots below it.

    Args:
      points: split, method, value, low, high and, if single runs are drawn, run: missing in the
        row of a method's summary, else the name of the run that reached the value.
      label: name of the value's axis.
    """
    splits, known = looks(points['split']), looks(points['method'])
    single = points['run'].notna() if 'run' in points else pd.Series(False, points.index)
    figure = Figure(figsize=(WIDTH, 0.6 + len(splits) * (0.15 + 0.26 * len(known))))
    axes = figure.subplots()
    places = [i * (len(known) + 0.6) for i in range(len(splits))]
    for i, (split, top) in enumerate(zip(splits, places, strict=True)):
        if i % 2:
            axes.axhspan(top - 0.8, top + len(known) - 0.2, color=_BAND, zorder=0)
        for y, (name, drawn) in enumerate(known.items(), 1):
            own = (points['split'] == split) & (points['method'] == name)
            for row in elements.rows(points[own & ~single]):
                elements.interval(axes, top + y - 1, row.value, row.low, row.high, drawn)
            runs = points[own & single]['value']
            below = np.full(len(runs), top + y - 0.65)
            axes.scatter(runs, below, s=9, color=drawn.colour, alpha=0.5, linewidths=0)
    elements.name_rows(axes, list(splits), [top + (len(known) - 1) / 2 for top in places], _NAMES)
    _value_axis(axes, label, places[-1] + len(known) - 0.2, top=-0.8)
    elements.legend(figure, elements.keys(known, line=False), list(known))
    return figure


@style.drawing
def differences(rows: pd.DataFrame, label: str, level: float = 0.05) -> Figure:
    """Paired differences with a line at zero; dots are filled where p is below the level.

    Args:
      rows: name, difference, low, high, p (adjusted by Holm; NaN: not tested).
      label: name of the difference's axis.
      level: of significance.
    """
    figure = Figure(figsize=(WIDTH, 1.2 + 0.38 * len(rows)))
    axes = figure.subplots()
    axes.axvline(0, color='#333333', linewidth=1)
    for y, row in enumerate(elements.rows(rows)):
        elements.interval(axes, y, row.difference, row.low, row.high, look(0), row.p < level)
        elements.beside(
            axes, y, f'{elements.number(row.difference, row.low, row.high, "+")}\n{_p(row.p)}'
        )
    elements.name_rows(axes, list(rows['name']), range(len(rows)), _NAMES)
    _value_axis(axes, label, len(rows) - 0.4, ticks=3)
    axes.xaxis.set_major_formatter(_shortest)
    shapes = {f'p < {level:g} (Holm)': look(0).colour, f'p ≥ {level:g} or not tested': 'white'}
    keys = [_dot(markerfacecolor=face, color=look(0).colour) for face in shapes.values()]
    elements.legend(figure, keys, list(shapes))
    return figure


@style.drawing
def shift(points: pd.DataFrame, label: str) -> Figure:
    """Methods in distribution and under a shift: a dot for each split, joined by a line.

    Args:
      points: method, split (the first one is in distribution), value, low, high.
      label: name of the value's axis.
    """
    splits, known = looks(points['split']), looks(points['method'])
    order = {split: i for i, split in enumerate(splits)}
    figure = Figure(figsize=(WIDTH, 1.2 + 0.46 * len(known)))
    axes = figure.subplots()
    for y, name in enumerate(known):
        own = points[points['method'] == name].sort_values(
            'split', key=lambda each: each.map(order)
        )
        places = [y + 0.22 * (order[split] - (len(splits) - 1) / 2) for split in own['split']]
        joints = own[['value']].assign(place=places).to_numpy()
        for joint in joints[1:]:
            axes.plot(*zip(joints[0], joint), color=GREY, linewidth=1.2, zorder=1)
        for place, row in zip(places, elements.rows(own)):
            ends, first = (row.value, row.low, row.high), order[row.split] == 0
            elements.interval(axes, place, *ends, splits[row.split], first)
    elements.name_rows(axes, list(known), range(len(known)), _NAMES)
    _value_axis(axes, label, len(known) - 0.4)
    keys = elements.keys(splits, line=False)
    for key in keys[1:]:
        key.set_markerfacecolor('white')
    elements.legend(figure, keys, list(splits))
    return figure


@style.drawing
def subgroups(rows: pd.DataFrame, label: str, overall: str = '') -> Figure:
    """A figure for each group of patients.

    Args:
      rows: group, n (its cases), value, low, high; a NaN value is written as not known.
      label: name of the value's axis.
      overall: the group whose value is drawn across all rows.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.38 * len(rows)))
    axes = figure.subplots()
    for value in rows[rows['group'] == overall]['value']:
        axes.axvline(value, color='#333333', linewidth=1, linestyle='--')
    for y, row in enumerate(elements.rows(rows)):
        elements.interval(axes, y, row.value, row.low, row.high, look(0))
        elements.beside(
            axes, y, f'{elements.number(row.value, row.low, row.high)}\nn = {row.n:,.0f}'
        )
    elements.name_rows(axes, list(rows['group']), range(len(rows)), _NAMES)
    _value_axis(axes, label, len(rows) - 0.4, ticks=3)
    return figure


def _fraction_axis(axes: Axes, fractions: np.ndarray) -> None:
    """Per cent; logarithmic over a wide range; writes the fractions, not those that would touch."""
    percent = 100 * fractions
    logarithmic = percent[-1] / percent[0] > _WIDE_RANGE
    place = np.log(percent) if logarithmic else percent
    written = [len(percent) - 1]
    for i in range(len(percent) - 2, -1, -1):
        if place[written[-1]] - place[i] > _APART * np.ptp(place):
            written.append(i)
    axes.set_xscale('log' if logarithmic else 'linear')
    axes.set_xticks(percent[written], [f'{value:g}%' for value in percent[written]])
    axes.set_xticks([], minor=True)


def _across(axes: Axes, row: pd.Series, colour: str) -> tuple[Any, ...]:
    """The baseline's value and interval over the whole width."""
    line = axes.axhline(row.value, color=colour, linestyle='--', linewidth=1.2)
    if math.isnan(row.low + row.high):
        return (line,)
    return (axes.axhspan(row.low, row.high, color=colour, alpha=0.13, linewidth=0), line)


def _line(axes: Axes, own: pd.DataFrame, drawn: Look, aside: float) -> Line2D:
    """Values joined by a line, with upright whiskers, moved aside by so many points."""
    moved = ScaledTranslation(aside / 72, 0, axes.figure.dpi_scale_trans)
    place: Any = {'color': drawn.colour, 'transform': axes.transData + moved}
    percent = 100 * own['fraction']
    for end in ('low', 'value', 'high'):  # matplotlib finds no limits for what is moved aside
        known = own[end].notna()
        axes.update_datalim(np.column_stack([percent[known], own[end][known]]))
    axes.vlines(percent, own['low'], own['high'], linewidth=1.5, **place)
    form = drawn.line + drawn.marker
    return axes.plot(percent, own['value'], form, markersize=5.5, clip_on=False, **place)[0]


def _value_axis(axes: Axes, label: str, bottom: float, top: float = -0.6, ticks: int = 4) -> None:
    axes.set(ylim=(bottom, top))
    axes.set_xlabel(elements.fitted(label, 2.6, 10))
    axes.xaxis.set_major_locator(MaxNLocator(ticks))
    axes.tick_params(axis='x', labelsize=SMALL)


def _shortest(value: float, _: float) -> str:
    return f'{round(value, 10):g}'.replace('-', '\N{MINUS SIGN}')


def _dot(**options: Any) -> Line2D:
    return Line2D([], [], linestyle='', marker='o', markersize=6.5, **options)


def _p(value: float) -> str:
    if math.isnan(value):
        return 'not tested'
    return 'p < 0.001' if value < 0.001 else f'p = {value:.3f}'
