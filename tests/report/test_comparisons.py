import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from big_ssl.report import comparisons, style
from tests.report.drawn import assert_texts_apart, texts_of, written

pytestmark = pytest.mark.filterwarnings('error')
NAN = float('nan')
METHODS = ['random', 'supervised ImageNet', 'SimCLR natural', 'SimCLR, then MICLe']
LONG = [f'a method whose name has 40 characters, no {i}' for i in range(8)]
WIDE = ['W' * 40 + str(i) for i in range(3)]
MINUS = '\N{MINUS SIGN}'


def table(columns, *rows):
    return pd.DataFrame(rows, columns=columns.split())


def by_fraction(methods, fractions):
    return table(
        'method fraction value low high',
        *[
            (method, share, 0.5 + 0.1 * share + 0.05 * i, 0.4 + 0.05 * i, 0.7 + 0.05 * i)
            for i, method in enumerate(methods)
            for share in fractions
        ],
    )


def line_of(axes, points):
    """The line through these points."""
    (line,) = [
        line
        for line in axes.lines
        if np.shape(line.get_xydata()) == np.shape(points)
        and np.allclose(line.get_xydata(), points)
    ]
    return line


def whiskers(axes):
    return np.concatenate(
        [each.get_segments() for each in axes.collections if isinstance(each, LineCollection)]
    )


def test_label_efficiency_draws_each_method_by_percent(figures):
    points = by_fraction(METHODS, [1.0, 0.1, 0.5])
    figure = comparisons.label_efficiency(points, 'AUC', 'random')
    (axes,) = figure.axes
    for i in range(4):
        expected = [(share, 0.5 + share / 1000 + 0.05 * i) for share in (10, 50, 100)]
        line_of(axes, expected)
    assert len(whiskers(axes)) == 12
    low, high = axes.get_ylim()
    assert low < 0.4 and high > 0.85  # whiskers of the first and the last method are within
    assert axes.get_xlim()[0] < 10 and axes.get_xlim()[1] > 100
    assert sorted(written(axes.get_xticklabels())) == ['10%', '100%', '50%']
    assert written(figure.legends[0].texts) == ['random, 100% of the labels', *METHODS]
    assert axes.lines[0].get_ydata() == pytest.approx([0.6, 0.6])  # the baseline, across
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (band.y0, band.y1) == pytest.approx((0.4, 0.7))


def test_methods_do_not_hide_each_other_at_a_fraction(figures):
    points = by_fraction(LONG, [0.01, 1.0])
    points['value'] = 0.5
    (axes,) = comparisons.label_efficiency(points, 'AUC').axes
    places = [line.get_transform().transform(line.get_xydata())[0, 0] for line in axes.lines]
    assert len(places) == 8 and np.diff(places).min() > 3


def test_a_baseline_with_one_point_is_only_a_line_across(figures):
    points = by_fraction(METHODS[:2], [0.1, 1.0])
    points = points[(points['method'] != 'random') | (points['fraction'] == 1.0)].assign(low=NAN)
    figure = comparisons.label_efficiency(points, 'AUC', 'random')
    assert written(figure.legends[0].texts) == ['random, 100% of the labels', METHODS[1]]
    assert not figure.axes[0].patches  # no interval, no band


def test_small_fractions_get_a_logarithmic_axis_with_labels_apart(figures):
    shares = [0.01, 0.012, 0.02, 0.1, 0.9, 0.95, 1.0]
    figure = comparisons.label_efficiency(by_fraction(METHODS, shares), 'AUC')
    (axes,) = figure.axes
    assert axes.get_xscale() == 'log'
    assert '100%' in written(axes.get_xticklabels()) and len(axes.get_xticks()) < 7
    assert_texts_apart(figure, texts_of(figure))


def test_by_split_places_summaries_and_single_runs(figures):
    points = table(
        'split method value low high run',
        ('test', 'a', 0.8, 0.7, 0.9, None),
        ('test', 'b', 0.6, NAN, 0.7, None),
        ('shift', 'a', 0.5, 0.4, 0.6, None),
        ('test', 'a', 0.82, NAN, NAN, 'seed 0'),
        ('test', 'a', 0.78, NAN, NAN, 'seed 1'),
    )
    points.index = [0] * 5  # tables that were put together repeat their index
    figure = comparisons.by_split(points, 'AUC')
    (axes,) = figure.axes
    line_of(axes, [(0.7, 0), (0.9, 0)])
    dots = [tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1]
    assert dots == [(0.8, 0), (0.6, 1), (0.5, pytest.approx(2.6))]
    (runs,) = [each for each in axes.collections if len(each.get_offsets())]
    np.testing.assert_allclose(runs.get_offsets(), [(0.82, 0.35), (0.78, 0.35)])
    np.testing.assert_allclose(runs.get_facecolor()[0, :3], matplotlib.colors.to_rgb('#0072B2'))
    assert written(axes.get_yticklabels()) == ['test', 'shift']
    assert axes.get_ylim()[0] > axes.get_ylim()[1]


def test_differences_show_significance_without_colour(figures):
    rows = table(
        'name difference low high p',
        ('b − a', 0.02, 0.01, 0.03, 0.0004),
        ('c − a', -0.01, -0.03, 0.01, 0.2),
        ('d − a', 0.03, NAN, NAN, NAN),
        ('e − a', 0.03, 0.02, 0.04, 0.049),
    )
    figure = comparisons.differences(rows, 'difference of AUC')
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0, 0])
    dots = [line for line in axes.lines if line.get_marker() == 'o']
    assert [line.get_xydata()[0].tolist() for line in dots] == [
        [0.02, 0], [-0.01, 1], [0.03, 2], [0.03, 3]
    ]  # fmt: skip
    filled = [line.get_markerfacecolor() != 'white' for line in dots]
    assert filled == [True, False, False, True]
    assert written(axes.texts) == [
        '+0.020  [+0.010, +0.030]\np < 0.001',
        f'{MINUS}0.010  [{MINUS}0.030, +0.010]\np = 0.200',
        '+0.030\nnot tested',
        '+0.030  [+0.020, +0.040]\np = 0.049',
    ]


def test_shift_joins_the_splits_of_a_method(figures):
    points = table(
        'method split value low high',
        ('a', 'test', 0.8, 0.75, 0.85),
        ('b', 'clinic', 0.6, NAN, NAN),
        ('b', 'test', 0.9, 0.85, 0.95),
        ('a', 'clinic', 0.7, 0.6, 0.75),
    )
    figure = comparisons.shift(points, 'AUC')
    (axes,) = figure.axes
    for method, (inside, outside) in enumerate([(0.8, 0.7), (0.9, 0.6)]):
        joint = line_of(axes, [(inside, method - 0.11), (outside, method + 0.11)])
        assert joint.get_color() == style.GREY
    filled = {
        line.get_xdata()[0]: line.get_markerfacecolor() != 'white'
        for line in axes.lines
        if len(line.get_xdata()) == 1
    }
    assert filled == {0.8: True, 0.9: True, 0.7: False, 0.6: False}
    assert written(figure.legends[0].texts) == ['test', 'clinic']


def test_subgroups_leave_out_what_is_not_known(figures):
    rows = table(
        'group n value low high',
        ('all', 1200, 0.8, 0.75, 0.85),
        ('women', 4, NAN, 0.1, 0.2),
        ('men', 1196, 0.7, 0.65, 0.75),
    )
    figure = comparisons.subgroups(rows, 'AUC', overall='all')
    (axes,) = figure.axes
    assert written(axes.texts) == [
        '0.800  [0.750, 0.850]\nn = 1,200',
        'not known\nn = 4',
        '0.700  [0.650, 0.750]\nn = 1,196',
    ]
    across, *others = axes.lines
    np.testing.assert_array_equal(across.get_xdata(), [0.8, 0.8])
    assert {line.get_ydata()[0] for line in others} == {0, 2}


def test_methods_keep_their_looks_over_pictures(figures):
    """With a categorical column, also where the first methods are missing."""
    points = by_fraction(METHODS, [0.1, 1.0])
    points['method'] = pd.Categorical(points['method'], METHODS)
    colours = []
    for part in (points, points[points['method'] == METHODS[3]]):
        figure = comparisons.label_efficiency(part, 'AUC')
        colours.append([line.get_color() for line in figure.legends[0].get_lines()][-1])
    assert colours[0] == colours[1] == style.COLOURS[3]


def draw_all(names):
    """Every picture of methods with these names."""
    points = by_fraction(names, [0.1, 0.2, 0.5, 1.0])
    points.loc[1::3, ['low', 'high']] = NAN
    splits = ['test', 'shift: another clinic, another camera and country']
    whole = points[points['fraction'] == 1.0]
    both = pd.concat([whole.assign(split=split) for split in splits])
    yield comparisons.label_efficiency(points, 'AUC, mean over all classes', names[0])
    yield comparisons.by_split(both, 'AUC, mean over all classes')
    yield comparisons.shift(both, 'AUC, mean over all classes')
    rows = whole.assign(name=whole['method'] + ' − random', difference=whole['value'] - 0.6, p=0.04)
    yield comparisons.differences(rows, 'difference of the mean AUC over all classes of the test')
    yield comparisons.subgroups(whole.assign(group=whole['method'], n=123456), 'AUC')


@pytest.mark.parametrize('names', [METHODS, LONG, WIDE, METHODS[:1], LONG[:1]])
def test_all_text_is_legible(names, figures):
    for figure in draw_all(names):
        assert figure.get_figwidth() <= style.WIDTH
        assert_texts_apart(figure, texts_of(figure))
