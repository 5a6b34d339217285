"""Small multiples: the curves or maps of several methods, a panel for each class or method.

Each function takes a table with the columns named in its docstring: the table is the picture's
data. Names keep the order of a categorical column, else that of appearance.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from big_ssl.report import elements, style
from big_ssl.report.smoothing import moving_mean
from big_ssl.report.style import GREY, SMALL, WIDTH, Look, looks

COMPONENTS = ('first principal component', 'second principal component')
_Line = tuple[Float[np.ndarray, ' p'], Float[np.ndarray, ' p']]
_UNKNOWN, _RARER = Look(GREY, '', '.'), Look('#444444', '', 'h')
_TINY = 8  # points of figures within a panel


@style.drawing
def roc(points: pd.DataFrame, most: int = 12) -> Figure:
    """ROC of each method, a panel for each class with the areas; classes left out are named.

    Args:
      points: class, method, false_positive_rate, true_positive_rate; the vertices of each curve in
        order, from (0, 0) to (1, 1).
      most: so many classes are drawn, the first ones.
    """
    known = looks(points['method'])
    figure, panels = _squares(
        points, most, len(known), '1 \N{MINUS SIGN} specificity', 'sensitivity'
    )
    for title, axes, own in panels:
        areas = {}
        for method, drawn, curve in _parts(own, known):
            false, true = curve['false_positive_rate'], curve['true_positive_rate']
            axes.plot(false, true, drawn.line, color=drawn.colour, linewidth=1.4)
            areas[method] = float(np.trapezoid(true, false))
        _heading(axes, title, 'AUC', areas, known)
    elements.legend(figure, elements.keys(known, marker=False), list(known))
    return figure


@style.drawing
def reliability(points: pd.DataFrame, most: int = 12, binary: bool = False) -> Figure:
    """How often each method is right at each confidence, with its expected calibration error.

    The error is the gap between the two, weighted by cases (Guo et al. 2017, equation 3). Dots are
    sized by the share of the cases.

    Args:
      points: method, confidence, accuracy, count of each bin (the first two NaN where it is empty)
        and, for a panel each, class.
      most: so many classes are drawn, the first ones.
      binary: confidence is the predicted probability of a class, accuracy its observed frequency.
    """
    known = looks(points['method'])
    by_class = points if 'class' in points else points.assign(**{'class': ''})
    confidence = 'predicted probability' if binary else 'confidence'
    accuracy = 'observed frequency' if binary else 'accuracy'
    figure, panels = _squares(by_class, most, len(known), confidence, accuracy)
    for title, axes, own in panels:
        errors = {}
        for method, drawn, bins in _parts(own[own['count'] > 0], known):
            share = bins['count'] / bins['count'].sum()
            place = bins['confidence'], bins['accuracy']
            axes.plot(*place, drawn.line, color=drawn.colour, linewidth=1.2)
            _dots(axes, *place, 5 + 60 * share, drawn, clip_on=False)
            errors[method] = float((share * (place[0] - place[1]).abs()).sum())
        _heading(axes, title, 'ECE', errors, known)
    elements.legend(figure, elements.keys(known), list(known))
    return figure


@style.drawing
def learning_curves(points: pd.DataFrame) -> Figure:
    """A panel for each metric by training step: a faint line a run, a strong one a method's mean.

    The mean is over all runs of a method, as far as all of them go, with straight lines between
    their points. Long noisy lines are drawn as their moving mean. Values that are not finite are
    left out.

    Args:
      points: metric (the panel's title, with unit), method, run, step, value.
    """
    known, metrics = looks(points['method']), list(looks(points['metric']))
    columns = min(2, len(metrics))
    figure, grid = elements.panels(len(metrics), columns, WIDTH / columns, 2.4)
    finite = points[np.isfinite(points['value'])]
    for axes, metric in zip(grid, metrics, strict=True):
        for _, drawn, own in _parts(finite[finite['metric'] == metric], known):
            by_run = own.sort_values('step').groupby('run', observed=True)
            runs = [(run['step'].to_numpy(), run['value'].to_numpy(float)) for _, run in by_run]
            for line in runs:
                axes.plot(*_smooth(*line), color=drawn.colour, alpha=0.35, linewidth=0.8, zorder=1)
            mean = _mean(runs)
            form = drawn.line + (drawn.marker if len(mean[0]) <= 30 else '')
            axes.plot(*_smooth(*mean), form, color=drawn.colour, markersize=4)
        axes.set_title(elements.fitted(metric, 0.8 * WIDTH / columns, 10), fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=''))
    for axes in grid[-columns:]:
        axes.set_xlabel('training step')
    elements.legend(figure, elements.keys(known), list(known))
    return figure


@style.drawing
def embeddings(
    points: pd.DataFrame, components: tuple[str, str] = COMPONENTS, most: int = 27
) -> Figure:
    """Two-dimensional maps side by side, a panel for each method, a colour and marker a class.

    Args:
      points: method, x, y, class (missing: no label, drawn in grey below the others).
      components: what x and y are.
      most: so many classes are told apart, the most frequent ones.
    """
    methods, classes = list(looks(points['method'])), looks(points['class'])
    if len(classes) > most:
        rarer = f'{len(classes) - most} rarer classes'
        frequent = points['class'].value_counts().index[:most]
        named = points['class'].isin(frequent) | points['class'].isna()
        points = points.assign(**{'class': points['class'].astype(object).where(named, rarer)})
        classes = looks(points['class'][points['class'] != rarer]) | {rarer: _RARER}
    columns = min(2, len(methods))
    figure, grid = elements.panels(
        len(methods), columns, WIDTH / columns, 2.6 if columns > 1 else 4.5
    )
    for i, (axes, method) in enumerate(zip(grid, methods, strict=True)):
        own = points[points['method'] == method]
        size = float(np.clip(12_000 / max(1, len(own)), 4, 22))
        unknown = own[own['class'].isna()]
        _dots(axes, unknown['x'], unknown['y'], size, _UNKNOWN, alpha=0.35)
        for name, drawn in classes.items():
            of_class = own[own['class'] == name]
            _dots(axes, of_class['x'], of_class['y'], size, drawn, alpha=0.75)
        axes.set_title(elements.fitted(method, 0.85 * WIDTH / columns, 10), fontsize=10)
        axes.set_aspect('equal', adjustable='datalim')
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        _outer_labels(axes, i, len(methods), columns, *components)
    shown = dict(classes)
    if points['class'].isna().any():
        shown['no label'] = _UNKNOWN
    elements.legend(figure, elements.keys(shown, line=False), list(shown), below=True)
    return figure


def _squares(
    points: pd.DataFrame, most: int, methods: int, x: str, y: str
) -> tuple[Figure, list[tuple[str, Axes, pd.DataFrame]]]:
    """A unit square with its diagonal for each class, up to `most`: its title, and its rows."""
    classes = list(looks(points['class']))
    drawn, left_out = classes[:most], classes[most:]
    columns = min(3, len(drawn))
    width = min(4.2, WIDTH / columns)
    side = width - 0.6 / columns - 0.1  # of the square: the first column has numbers beside it
    titles = [elements.fitted(name, 1.4, lines=3) for name in drawn]
    lines = 2 + max(title.count('\n') for title in titles)
    heading = 0.16 * lines + 0.14 * -(-methods // 2) + 0.1
    figure, grid = elements.panels(len(drawn), columns, width, side + 0.2 + heading)
    figure.set_figheight(figure.get_figheight() + 0.3)
    for i, axes in enumerate(grid):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
        axes.set_aspect('equal')
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.tick_params(labelsize=_TINY, labelleft=i % columns == 0)
        elements.unit_limits(axes)
        _outer_labels(axes, i, len(drawn), columns, x, y)
    if left_out:
        elements.note(figure, f'Not drawn: {", ".join(left_out)}.')
    rows = [points[points['class'] == name] for name in drawn]
    return figure, list(zip(titles, grid, rows))


def _outer_labels(axes: Axes, i: int, count: int, columns: int, x: str, y: str) -> None:
    """Names of the axes at the left and below the lowest panels of a grid only."""
    if i + columns >= count:
        axes.set_xlabel(x, fontsize=SMALL)
    if i % columns == 0:
        axes.set_ylabel(y, fontsize=SMALL)


def _parts(
    rows: pd.DataFrame, known: Mapping[str, Look]
) -> Iterator[tuple[str, Look, pd.DataFrame]]:
    """Rows of each method that has any."""
    for method, drawn in known.items():
        own = rows[rows['method'] == method]
        if len(own):
            yield method, drawn, own


def _dots(
    axes: Axes, x: pd.Series, y: pd.Series, size: float | pd.Series, drawn: Look, **options: Any
) -> None:
    form: Any = {'color': drawn.colour, 'marker': drawn.marker, 'linewidths': 0}
    axes.scatter(x, y, size, **form, **options)


def _heading(
    axes: Axes, title: str, figure: str, values: Mapping[str, float], known: Mapping[str, Look]
) -> None:
    """The class above its panel, and a figure for each method."""
    axes.legend(
        elements.keys({method: known[method] for method in values}, marker=figure == 'ECE'),
        [f'{value:.3f}' for value in values.values()],
        title=f'{title}\n{figure}'.strip(),
        title_fontsize=SMALL,
        alignment='left',
        loc='lower left',
        bbox_to_anchor=(-0.05, 1),
        ncols=2,
        fontsize=_TINY,
        handlelength=1.4,
        markerscale=0.6,
        labelspacing=0.15,
        columnspacing=0.8,
        borderaxespad=0.2,
        borderpad=0,
    )


def _smooth(steps: np.ndarray, values: np.ndarray) -> _Line:
    return moving_mean(steps, values) or (steps, values)


def _mean(runs: list[_Line]) -> _Line:
    """Steps that any run recorded and the mean there, from where all have begun until one ends."""
    steps = np.unique(np.concatenate([run[0] for run in runs]))
    values = [np.interp(steps, *run, left=np.nan, right=np.nan) for run in runs]
    mean = np.mean(values, axis=0)
    within = np.isfinite(mean)
    return steps[within], mean[within]
