import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from big_ssl.report import design, style
from tests.report.drawn import assert_texts_apart, texts_of, written

pytestmark = pytest.mark.filterwarnings('error')
NAN = float('nan')


def trials(*rows):
    return pd.DataFrame(rows, columns=['learning_rate', 'weight_decay', 'value'])


def frequencies(classes, splits):
    random = np.random.default_rng(0)
    parts = []
    for split in splits:
        count = random.integers(1, 20_000, len(classes))
        share = count / count.sum()
        parts.append({'class': classes, 'split': split, 'count': count, 'share': share})
    return pd.concat([pd.DataFrame(part) for part in parts])


def test_class_frequencies_are_bars_with_counts(figures):
    counts = pd.DataFrame(
        [
            ('acne', 'train', 1500, 0.75),
            ('acne', 'clinic', 1, 0.0004),
            ('eczema', 'train', 500, 0.25),
        ],
        columns=['class', 'split', 'count', 'share'],
    )
    figure = design.class_frequencies(counts)
    (axes,) = figure.axes
    train, clinic = axes.containers
    assert [bar.get_width() for bar in train] == [0.75, 0.25]
    assert [bar.get_width() for bar in clinic] == [0.0004]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in (*train, *clinic)]
    assert middles == pytest.approx([-0.2125, 0.7875, 0.2125])
    assert train[0].get_hatch() != clinic[0].get_hatch()
    assert written(axes.texts) == ['75.0% (1,500)', '25.0% (500)', '<0.1% (1)']
    assert written(axes.get_yticklabels()) == ['acne', 'eczema']
    assert axes.get_xticks().max() <= 1


@pytest.mark.parametrize('splits', [['train'], ['train', 'shift'], ['a', 'b', 'c']])
@pytest.mark.parametrize('classes', [1, 27])
def test_frequencies_of_many_classes_are_legible(classes, splits, figures):
    names = [f'class {i} with a name of forty characters'[:40] for i in range(classes)]
    figure = design.class_frequencies(frequencies(names, splits))
    assert figure.get_figwidth() <= style.WIDTH
    assert_texts_apart(figure, texts_of(figure))


@pytest.mark.parametrize('lowest, best', [(False, (1, 0)), (True, (0, 1))])
def test_search_frames_the_best_and_names_what_diverged(lowest, best, figures):
    tried = trials(
        (0.1, 1e-4, NAN), (0.01, 1e-4, 0.7), (0.001, 1e-4, 0.8), (0.01, 0.0, 0.9), (0.1, 0, np.inf)
    )
    figure = design.search(tried, 'AUC', lowest=lowest)
    (axes,) = figure.axes
    assert written(axes.get_xticklabels()) == ['0.001', '0.01', '0.1']
    assert written(axes.get_yticklabels()) == ['0.0001', '0']
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {
        (2, 0): 'diverged', (1, 0): '0.700', (0, 0): '0.800', (1, 1): '0.900', (2, 1): 'diverged'
    }  # fmt: skip
    (frame,) = [patch for patch in axes.patches if not patch.get_fill()]
    column, row = (round(place + 0.46) for place in frame.get_xy())
    assert cells[column, row] == ('0.700' if lowest else '0.900')
    np.testing.assert_allclose(
        axes.images[0].get_array().filled(NAN), [[0.8, 0.7, NAN], [NAN, 0.9, NAN]]
    )


def test_numbers_stand_out_from_their_cells(figures):
    values = np.linspace(0.2, 0.9, 8)
    (axes,) = design.search(trials(*[(i, 0, value) for i, value in enumerate(values)]), 'AUC').axes
    for text, value in zip(axes.texts, values, strict=True):
        cell = luminance(axes.images[0].to_rgba(np.array(value))[:3])
        light, dark = sorted([cell, luminance(to_rgb(text.get_color()))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, success criterion 1.4.3


def luminance(rgb):
    """Relative luminance, WCAG 2.2."""
    rgb = np.asarray(rgb)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_other_settings_can_be_searched(figures):
    tried = pd.DataFrame({'temperature': [0.1, 0.5], 'batch_size': [64, 64], 'value': [0.3, 0.4]})
    (axes,) = design.search(tried, 'kNN', x='temperature', y='batch_size').axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('temperature', 'batch size')


def test_pictures_side_by_side_share_their_colours(figures):
    tried = trials((0.1, 0, 0.5), (0.3, 0, 0.6))
    (axes,) = design.search(tried, 'AUC', limits=(0.2, 0.9)).axes
    assert axes.images[0].get_clim() == (0.2, 0.9)
    (axes,) = design.search(tried, 'AUC').axes
    assert axes.images[0].get_clim() == (0.5, 0.6)


def test_a_pair_that_was_tried_twice_is_refused():
    with pytest.raises(ValueError, match='duplicate'):
        design.search(trials((0.1, 0, 0.5), (0.1, 0, 0.6)), 'AUC')


@pytest.mark.parametrize('rates', [[0.1], np.logspace(-7, 2, 13)])
@pytest.mark.parametrize('value', [NAN, 0.5])
def test_search_is_legible(rates, value, figures):
    label = 'macro AUC on validation of a method with a long name'
    tried = trials(*[(rate, decay, value) for rate in rates for decay in (0, 1.234e-5)])
    figure = design.search(tried, label)
    texts = [*texts_of(figure), figure._suptitle]
    assert_texts_apart(figure, texts)
