"""The look that all pictures share, and the way from a figure to PNG bytes.

Figures are made without pyplot, so nothing is global and no display is needed. Colours are those of
Okabe & Ito 2008 (Color Universal Design), told apart under every common colour blindness; lines and
markers differ as well, so that no picture depends on colour.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
LINES = ('-', '--', ':', '-.')
MARKERS = ('o', '^', 's', 'D', 'v', 'P', 'X', '<')
GREY = '#8A8A8A'
WIDTH = 5.2  # inches of a study's picture: legible when scaled to a phone's 320 pixels
SMALL = 9  # points of legends and of text beside rows
_STYLE: Any = {
    'font.family': 'DejaVu Sans',
    'font.size': 10,
    'axes.titlesize': 11,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.edgecolor': '#555555',
    'axes.grid': True,
    'axes.axisbelow': True,
    'axes.formatter.useoffset': False,
    'grid.color': '#E4E4E4',
    'legend.frameon': False,
    'figure.constrained_layout.use': True,
    'figure.constrained_layout.h_pad': 0.06,
    'figure.constrained_layout.w_pad': 0.06,
    'figure.facecolor': 'white',
    'hatch.linewidth': 0.6,
    'savefig.dpi': 144,
    'text.parse_math': False,  # a dollar sign in a name is a dollar sign
}
_Arguments = ParamSpec('_Arguments')


class Look(NamedTuple):
    colour: str
    line: str
    marker: str


def look(order: int) -> Look:
    """The look of the method, split or class of that order; 28 differ in both colour and line."""
    return Look(COLOURS[order % 7], LINES[order % 4], MARKERS[order % 8])


def looks(names: pd.Series) -> dict[str, Look]:
    """A look for each name that occurs: in the order of its categories, else of appearance.

    A categorical column keeps the look of a name over pictures that lack some of the others.
    """
    categorical = isinstance(names.dtype, pd.CategoricalDtype)
    order = names.cat.categories if categorical else names.dropna().unique()
    present = set(names)
    return {name: look(i) for i, name in enumerate(order) if name in present}


def drawing(draw: Callable[_Arguments, Figure]) -> Callable[_Arguments, bytes]:
    """Makes of a function that draws a figure one that returns the PNG, in the shared style.

    If its first argument is a table without rows, the picture says so.
    """

    @functools.wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> bytes:
        with matplotlib.rc_context(_STYLE):
            first = next(iter((*args, *kwargs.values())))
            nothing = isinstance(first, pd.DataFrame) and first.empty
            return png(blank('nothing recorded') if nothing else draw(*args, **kwargs))

    return drawn


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format='png')
    return file.getvalue()


def blank(text: str) -> Figure:
    """A figure that only says why it is one."""
    figure = Figure(figsize=(3.5, 1.2))
    figure.text(0.5, 0.5, text, ha='center', va='center', color=GREY)
    return figure
