"""Pictures of a run as PNG bytes; where classes outnumber colours, lines and markers go on."""

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from big_ssl.report import elements, style
from big_ssl.report.smoothing import moving_mean
from big_ssl.report.style import GREY, Look, look

_MOST_PAIRS = 8


@style.drawing
def pairs(images: UInt8[np.ndarray, 'n views h w c'], captions: Sequence[str]) -> Figure:
    """Positive pairs as the loss sees them: a row for each case (the first eight), a column a view.

    Raises ValueError unless there is one caption for each case and c is 1 or 3.
    """
    if len(images) != len(captions) or images.shape[-1] not in (1, 3):
        raise ValueError(f'images of {images.shape} do not go with {len(captions)} captions')
    rows, views = min(len(images), _MOST_PAIRS), images.shape[1]
    figure = Figure(figsize=(1.9 + 1.3 * views, 0.5 + 1.3 * rows))
    cells = figure.subplots(rows, views + 1, squeeze=False, width_ratios=[1.4] + [1.0] * views)
    for row in range(rows):
        caption = '\n'.join(textwrap.wrap(captions[row], 22, max_lines=5))
        cells[row, 0].text(1, 0.5, caption, ha='right', va='center')
        for view in range(views):
            image = images[row, view]
            colours = np.broadcast_to(image, (*image.shape[:2], 3))  # grey too, on the full range
            cells[row, view + 1].imshow(colours)
    for view in range(views):
        cells[0, view + 1].set_title(f'view {view + 1}')
    for cell in cells.flat:
        cell.set_axis_off()
    return figure


@style.drawing
def curves(records: Sequence[Mapping[str, object]], keys: Mapping[str, str]) -> Figure:
    """A panel for each key by training step, a line for each split.

    Long noisy lines are drawn faintly under their moving mean.

    Args:
      records: lines of metrics.jsonl: `step`, `split`, and values by key.
      keys: what to draw, and the label (with unit) of its axis; a key without a finite value in
        the records has no panel.
    """
    lines = {key: _by_split(records, key) for key in keys}
    drawn = [key for key in keys if lines[key]]
    columns = min(3, max(1, len(drawn)))
    rows = max(1, math.ceil(len(drawn) / columns))
    figure = Figure(figsize=(3.5 * columns, 2.5 * rows + 0.4))
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).flat
    splits = sorted({split for key in drawn for split in lines[key]}, key=_train_first)
    handles = {}
    for key, panel in zip(drawn, panels, strict=False):
        for split, (steps, values) in lines[key].items():
            handles[split] = _line(panel, steps, values, look(splits.index(split)))
        panel.set(xlabel='training step', ylabel=keys[key])
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        panel.xaxis.set_major_formatter(EngFormatter(sep=''))
        panel.tick_params(labelbottom=True)
    for panel in figure.axes[len(drawn) :]:
        panel.set_axis_off()
    if not drawn:
        figure.text(0.5, 0.5, 'nothing recorded', ha='center', color=GREY)
    else:
        ordered = [handles[split] for split in splits]
        figure.legend(ordered, splits, loc='outside upper center', ncols=len(splits))
    return figure


@style.drawing
def confusion(matrix: Int[np.ndarray, 'k k'], classes: Sequence[str]) -> Figure:
    """Confusion matrix, rows the true class: colour is the share of the row, text the count."""
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(0.36, 0.6 - 0.02 * len(classes)) * len(classes)
    figure = Figure(figsize=(side + 3.6, side + 1.8))
    axes = figure.subplots()
    image = axes.imshow(share, 'Blues', vmin=0, vmax=1)
    for i, j in np.argwhere(matrix > 0):
        axes.text(
            j,
            i,
            f'{matrix[i, j]}',
            ha='center',
            va='center',
            fontsize=8.5 if matrix[i, j] < 1000 else 6.5,
            color='white' if share[i, j] > 0.55 else '#222222',
        )
    names = [_short(name) for name in classes]
    axes.set_xticks(range(len(classes)), names, rotation=45, ha='right', rotation_mode='anchor')
    axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel='predicted class', ylabel='true class')
    axes.grid(visible=False)
    bar = figure.colorbar(image, shrink=0.6, aspect=25, format=PercentFormatter(1))
    bar.set_label('share of the true class')
    return figure


@style.drawing
def roc(lines: Mapping[str, tuple[Float[np.ndarray, ' p'], Float[np.ndarray, ' p']]]) -> Figure:
    """ROC of each class: false and true positive rates, ascending from (0, 0) to (1, 1).

    The legend is ordered by area, which is written beside each name.
    """
    figure = Figure(figsize=(7.6, max(4.8, 0.2 * len(lines) + 0.6)))
    axes = figure.subplots()
    areas = {name: float(np.trapezoid(true, false)) for name, (false, true) in lines.items()}
    for i, name in enumerate(sorted(lines, key=lambda name: -areas[name])):
        axes.plot(
            *lines[name],
            color=look(i).colour,
            linestyle=look(i).line,
            label=f'{areas[name]:.3f}  {_short(name)}',
        )
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    axes.set(xlabel='1 \N{MINUS SIGN} specificity', ylabel='sensitivity')
    elements.unit_limits(axes)
    axes.set_aspect('equal', anchor='N')
    figure.legend(loc='outside right upper', title='area, class', alignment='left', fontsize=9)
    return figure


@style.drawing
def reliability(
    confidence: Float[np.ndarray, ' bins'],
    accuracy: Float[np.ndarray, ' bins'],
    count: Int[np.ndarray, ' bins'],
) -> Figure:
    """Accuracy against confidence in each bin (NaN where it is empty), and the cases in each."""
    figure = Figure(figsize=(5.2, 6.6))
    top, bottom = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, label='perfect calibration')
    area = 20 + 180 * count / max(1, count.max())
    filled = count > 0
    top.plot(confidence[filled], accuracy[filled], color=look(0).colour, alpha=0.5)
    top.scatter(
        confidence,
        accuracy,
        s=area,
        color=look(0).colour,
        clip_on=False,
        zorder=3,
        label='a bin, sized by its cases',
    )
    top.set(ylabel='accuracy')
    elements.unit_limits(top)
    top.legend(loc='upper left')
    edges = np.linspace(0, 1, len(count) + 1)
    widths, colour = np.diff(edges), look(0).colour
    bottom.bar(edges[:-1], count, widths, align='edge', color=colour, edgecolor='white')
    bottom.set(xlabel='confidence of the predicted class', ylabel='cases')
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


@style.drawing
def intervals(rows: Sequence[tuple[str, float, float, float]], label: str) -> Figure:
    """Dots with whiskers from (name, value, low, high), first row on top, numbers at the right.

    A NaN low or high leaves the whisker out; `label` is the axis', with its unit.
    """
    figure = Figure(figsize=(6.5, 0.36 * len(rows) + 1.0))
    axes = figure.subplots()
    for y, (_, value, low, high) in enumerate(rows):
        elements.interval(axes, y, value, low, high, look(0))
        elements.beside(axes, y, elements.number(value, low, high))
    elements.name_rows(axes, [name for name, *_ in rows], range(len(rows)), 2.2)
    axes.set(xlabel=label, ylim=(len(rows) - 0.4, -0.6))
    return figure


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else name[: most - 1] + '…'


def _train_first(split: str) -> tuple[bool, str]:
    return split != 'train', split


def _by_split(
    records: Sequence[Mapping[str, object]], key: str
) -> dict[str, tuple[Float[np.ndarray, ' p'], Float[np.ndarray, ' p']]]:
    """Steps, ascending, and finite values of one key for each split that has any."""
    found: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        value = record.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            found.setdefault(str(record['split']), []).append((record['step'], value))  # type: ignore[arg-type]
    return {split: tuple(np.array(sorted(points)).T) for split, points in found.items()}  # type: ignore[misc]


def _line(panel: Axes, steps: np.ndarray, values: np.ndarray, drawn: Look):
    """Draws the values, or their moving mean where they are many and noisy; returns the line."""
    if (smooth := moving_mean(steps, values)) is None:
        marker = 'o' if len(steps) <= 30 else ''
        return panel.plot(steps, values, drawn.line + marker, color=drawn.colour, markersize=4)[0]
    panel.plot(steps, values, color=drawn.colour, alpha=0.25, linewidth=0.8)
    return panel.plot(*smooth, drawn.line, color=drawn.colour)[0]
