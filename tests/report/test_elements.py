import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from big_ssl.report import elements, style
from tests.report.drawn import assert_texts_apart

LONG = 'seborrhoeic keratosis with a name of some length'


@pytest.fixture
def written_width():
    """Inches of a text as the picture's own renderer measures it."""
    figure = Figure(dpi=720)

    def width(text):
        drawn = Text(0, 0, text, fontsize=style.SMALL, figure=figure, parse_math=False)
        return drawn.get_window_extent().width / 720

    return width


@pytest.mark.parametrize('name', [LONG, 'W' * 60, 'i' * 60, 'a_name_' * 9, r'$\alpha$ ' * 9])
@pytest.mark.parametrize('inches', [0.6, 1.4, 2.0])
def test_fitted_names_are_no_wider_than_asked(name, inches, written_width):
    text = elements.fitted(name, inches)
    assert text.count('\n') <= 1
    assert written_width(text) <= inches + 0.02
    assert written_width(text) > 0.4 * inches  # and the room is used


def test_names_that_fit_are_whole_and_others_say_that_they_are_cut():
    assert elements.fitted('melanoma', 2.0) == 'melanoma'
    assert elements.fitted(LONG, 2.0).replace('\n', ' ') == LONG
    assert elements.fitted(LONG, 1.0).endswith('…')
    assert elements.fitted('', 1.0) == ''


@pytest.mark.parametrize(
    'figures_of, text',
    [
        ((0.5, 0.4, 0.6), '0.500  [0.400, 0.600]'),
        ((-0.02, float('nan'), 0.01), '\N{MINUS SIGN}0.020'),
        ((float('nan'), 0.1, 0.2), 'not known'),
    ],
)
def test_numbers_with_intervals(figures_of, text):
    assert elements.number(*figures_of) == text
    assert elements.number(0.01, sign='+') == '+0.010'


@pytest.mark.parametrize('below', [False, True])
@pytest.mark.parametrize('count', [1, 8, 27])
def test_a_legend_takes_nothing_from_the_panels(below, count, figures):
    @style.drawing
    def draw(names):
        figure, grid = elements.panels(3, 2, 2.6, 2.0)
        looks = {name: style.look(i) for i, name in enumerate(names)}
        elements.legend(figure, elements.keys(looks), names, below)
        return figure

    def height(names):
        figure = draw(names)
        assert_texts_apart(figure, figure.legends[0].texts)
        return figure.axes[0].get_window_extent().height

    names = [f'{LONG[: 40 - i]} {i}' for i in range(count)]
    assert height(names) == pytest.approx(height(['short']), rel=0.12)
