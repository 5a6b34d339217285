"""Reads pictures and figures back."""

import io
import itertools

import numpy as np
import PIL.Image


def pixels(png):
    return np.asarray(PIL.Image.open(io.BytesIO(png)).convert('RGB'))


def labels_of(axes):
    found = [axes.xaxis.label, axes.yaxis.label]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return found


def texts_of(figure):
    """All that is written in a figure."""
    found = [*figure.texts, *([figure._supxlabel] if figure._supxlabel else [])]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    for legend in filter(None, legends):
        found += [legend.get_title(), *legend.get_texts()]
    for axes in figure.axes:
        if axes.axison:
            found += [axes.title, *labels_of(axes), *axes.texts]
    return found


def written(texts):
    return [text.get_text() for text in texts]


def assert_texts_apart(figure, texts):
    """Every text lies on the canvas, and none covers another by more than a pixel."""
    shown = {id(text): text for text in texts if text.get_text() and text.get_visible()}.values()
    boxes = [(text.get_window_extent(), text.get_text()) for text in shown]
    width, height = figure.canvas.get_width_height()
    for box, text in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, f'{text!r} is cut off'
    for (one, text), (other, covered) in itertools.combinations(boxes, 2):
        overlap_x = min(one.x1, other.x1) - max(one.x0, other.x0)
        overlap_y = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert overlap_x <= 1 or overlap_y <= 1, f'{text!r} covers {covered!r}'
