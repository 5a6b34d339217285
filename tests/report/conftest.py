import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from big_ssl.report import style


@pytest.fixture
def figures(monkeypatch):
    """Makes every picture function return its figure, drawn, instead of its PNG."""

    def drawn(figure):
        FigureCanvasAgg(figure).draw()
        return figure

    monkeypatch.setattr(style, 'png', drawn)
