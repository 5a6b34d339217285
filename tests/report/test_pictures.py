import numpy as np
import pytest
import sklearn.metrics

from big_ssl.report import pictures
from tests.report.drawn import assert_texts_apart, labels_of, pixels

pytestmark = pytest.mark.filterwarnings('error')


def test_pairs_show_the_images_as_they_are():
    images = np.zeros((3, 2, 8, 8, 3), np.uint8)
    images[:] = np.array([40, 150, 230], np.uint8)
    images[2, 1] = [200, 10, 90]
    shown = pixels(pictures.pairs(images, ['a', r'b $\x$', 'c' * 60]))
    counts = {
        colour: (shown == np.array(colour)).all(axis=-1).sum()
        for colour in ((40, 150, 230), (200, 10, 90))
    }
    assert counts[200, 10, 90] > 5000  # one cell of six
    assert counts[40, 150, 230] == pytest.approx(5 * counts[200, 10, 90], rel=0.03)


def test_grey_pairs_are_not_stretched():
    images = np.full((1, 2, 8, 8, 1), 100, np.uint8)
    images[:, :, 0, 0] = 120
    shown = pixels(pictures.pairs(images, ['a']))
    assert ((shown == 100).all(axis=-1)).sum() > 50 * 50


def test_pairs_stop_at_eight_and_refuse_wrong_shapes(figures):
    figure = pictures.pairs(np.zeros((11, 2, 4, 4, 3), np.uint8), [str(i) for i in range(11)])
    assert sum(len(axes.images) for axes in figure.axes) == 16
    with pytest.raises(ValueError, match='2 captions'):
        pictures.pairs(np.zeros((3, 2, 4, 4, 3), np.uint8), ['a', 'b'])
    with pytest.raises(ValueError, match='do not go with'):
        pictures.pairs(np.zeros((1, 2, 4, 4, 2), np.uint8), ['a'])


def test_curves_draw_each_split_and_leave_gaps_out(figures):
    records = [
        {'step': 20, 'split': 'train', 'loss': 3.0, 'learning_rate': 0.1},
        {'step': 10, 'split': 'train', 'loss': 4.0},
        {'step': 30, 'split': 'train', 'loss': float('nan')},
        {'step': 20, 'split': 'val', 'loss': 3.5, 'note': 'text'},
    ]
    keys = {'loss': 'loss (nats)', 'absent': '?', 'note': '?', 'learning_rate': 'learning rate'}
    figure = pictures.curves(records, keys)
    loss, rate = (axes for axes in figure.axes if axes.axison)
    train, val = loss.lines
    np.testing.assert_array_equal(train.get_xydata(), [[10, 4], [20, 3]])
    np.testing.assert_array_equal(val.get_xydata(), [[20, 3.5]])
    assert (train.get_color(), train.get_linestyle()) != (val.get_color(), val.get_linestyle())
    assert loss.get_ylabel() == 'loss (nats)' and rate.get_ylabel() == 'learning rate'
    assert [text.get_text() for text in figure.legends[0].texts] == ['train', 'val']
    assert_texts_apart(figure, [*labels_of(loss), *labels_of(rate), *figure.legends[0].texts])


def test_long_noisy_curves_get_a_moving_mean_and_schedules_do_not(figures):
    random = np.random.default_rng(0)
    noisy, smooth = 5 + random.normal(size=500), np.cos(np.linspace(0, np.pi, 500))
    records = [
        {'step': 10 * i, 'split': 'train', 'noisy': noisy[i], 'smooth': smooth[i]}
        for i in range(500)
    ]
    figure = pictures.curves(records, {'noisy': 'noisy', 'smooth': 'smooth'})
    faint, bold = figure.axes[0].lines
    np.testing.assert_array_equal(faint.get_ydata(), noisy)
    steps, means = bold.get_data()
    for step, mean in zip(steps[::50], means[::50], strict=True):  # windows of 500 / 50 values
        at = int(step) // 10
        assert mean == pytest.approx(noisy[at - 4 : at + 6].mean())
    (line,) = figure.axes[1].lines
    np.testing.assert_array_equal(line.get_ydata(), smooth)


def test_curves_without_records_say_so(figures):
    figure = pictures.curves([], {'loss': 'loss'})
    assert [text.get_text() for text in figure.texts] == ['nothing recorded']


def test_confusion_is_normalised_by_row_and_counts_are_written(figures):
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 1])
    matrix = sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    axes = pictures.confusion(matrix, ['acne', 'eczema', 'never seen']).axes[0]
    expected = np.zeros((3, 3))
    expected[:2] = sklearn.metrics.confusion_matrix(
        labels, predicted, labels=[0, 1, 2], normalize='true'
    )[:2]
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    written = {text.get_position(): text.get_text() for text in axes.texts}
    assert written == {(0, 0): '2', (1, 0): '1', (1, 1): '2'}
    assert axes.get_ylabel() == 'true class' and axes.get_xlabel() == 'predicted class'


def test_roc_is_ordered_by_sklearns_area(figures):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    scores = {f'class {i}': random.normal(size=200) + i * labels for i in range(3)}
    curves = {name: sklearn.metrics.roc_curve(labels, s)[:2] for name, s in scores.items()}
    figure = pictures.roc(curves)
    areas = {name: sklearn.metrics.roc_auc_score(labels, s) for name, s in scores.items()}
    expected = [f'{areas[name]:.3f}  {name}' for name in ('class 2', 'class 1', 'class 0')]
    assert [text.get_text() for text in figure.legends[0].texts] == expected
    assert_texts_apart(figure, [*labels_of(figure.axes[0]), *figure.legends[0].texts])


def test_reliability_skips_empty_bins(figures):
    confidence = np.array([np.nan, 0.3, np.nan, 0.8])
    accuracy = np.array([np.nan, 0.5, np.nan, 0.7])
    top, bottom = pictures.reliability(confidence, accuracy, np.array([0, 5, 0, 9])).axes
    np.testing.assert_array_equal(top.lines[1].get_xydata(), [[0.3, 0.5], [0.8, 0.7]])
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in bottom.patches]
    assert bars == [(0, 0.25, 0), (0.25, 0.25, 5), (0.5, 0.25, 0), (0.75, 0.25, 9)]


def test_intervals_are_where_they_should_be(figures):
    rows = [
        (r'auc/$\acne$', 0.8, 0.7, 0.9),
        ('a name of more than forty characters, in two lines', 0.5, *[np.nan] * 2),
    ]
    figure = pictures.intervals(rows, 'area under the ROC')
    axes = figure.axes[0]
    whisker, dot = axes.lines[:2]
    np.testing.assert_array_equal(whisker.get_xydata(), [[0.7, 0], [0.9, 0]])
    np.testing.assert_array_equal(dot.get_xydata(), [[0.8, 0]])
    assert [text.get_text() for text in axes.texts] == ['0.800  [0.700, 0.900]', '0.500']
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == rows[0][0] and names[1].split('\n') != [rows[1][0]]
    assert names[1].replace('\n', ' ') == rows[1][0]
    assert_texts_apart(figure, [*labels_of(axes), *axes.texts])
