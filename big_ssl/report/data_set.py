"""Pictures of what a data set is made of; each takes a table, which is the picture's data."""

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from big_ssl.report import elements, style
from big_ssl.report.style import COLOURS, SMALL, WIDTH


@style.drawing
def images_per_case(cases: pd.DataFrame) -> Figure:
    """Bars: how many cases have so many images.

    Args:
      cases: images (text), cases.
    """
    figure = Figure(figsize=(WIDTH, 2.4))
    axes = figure.subplots()
    bars = axes.bar(cases['images'], cases['cases'], color=COLOURS[0])
    axes.bar_label(bars, [f'{count:,}' for count in cases['cases']], padding=2, fontsize=SMALL)
    axes.set(xlabel='images in a case', ylabel='cases')
    axes.margins(y=0.15)
    axes.grid(visible=False, axis='x')
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_formatter(EngFormatter(sep=''))
    return figure


@style.drawing
def distributions(images: pd.DataFrame) -> Figure:
    """Histograms of the images' sides in pixels, their shape and their brightness.

    Args:
      images: height, width, mean (of the levels, 0 to 255), deviation.
    """
    shorter, longer = np.sort(images[['height', 'width']].to_numpy(), axis=1).T
    panels = {
        'shorter side, pixels': shorter,
        'width / height': images['width'] / images['height'],
        'mean level, 0 to 255': images['mean'],
        'deviation of the levels': images['deviation'],
    }
    figure, cells = elements.panels(len(panels), 2, WIDTH / 2, 1.9)
    for axes, (label, values) in zip(cells, panels.items()):
        numbers = np.asarray(values, float)
        edges = np.histogram_bin_edges(numbers, min(40, max(8, len(np.unique(numbers)))))
        axes.hist(numbers, edges.tolist(), color=COLOURS[0])
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_formatter(EngFormatter(sep=''))
    return figure


@style.drawing
def gallery(rows: list[tuple[str, list[UInt8[np.ndarray, 'h w c']]]], columns: int) -> Figure:
    """Rows of images of any size, each with a caption at the left.

    Args:
      rows: caption and images.
      columns: of images; a row's further ones are not shown.
    """
    figure = Figure(figsize=(1.9 + 1.15 * columns, 0.1 + 1.2 * max(1, len(rows))))
    cells = figure.subplots(
        max(1, len(rows)), columns + 1, squeeze=False, width_ratios=[1.5] + [1.0] * columns
    )
    for cell in cells.flat:
        cell.set_axis_off()
    for line, (caption, images) in zip(cells, rows):
        text: Any = {'ha': 'right', 'va': 'center', 'fontsize': SMALL}
        line[0].text(1, 0.5, elements.fitted(caption, 1.5, lines=4), **text)
        for cell, image in zip(line[1:], images):
            cell.imshow(np.broadcast_to(image, (*image.shape[:2], 3)))
    return figure


def thumbnail(levels: UInt8[np.ndarray, 'h w c'], side: int = 160) -> UInt8[np.ndarray, 'h w c']:
    """The image, its longer side made smaller to `side` pixels."""
    height, width = levels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    image = Image.fromarray(levels if levels.shape[-1] == 3 else levels[..., 0])
    small = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    return small if small.ndim == 3 else small[..., None]
