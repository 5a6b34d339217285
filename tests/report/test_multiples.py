import numpy as np
import pandas as pd
import pytest
import sklearn.metrics

from big_ssl.evaluation import calibration
from big_ssl.report import multiples, style
from tests.report.drawn import assert_texts_apart, texts_of, written

pytestmark = pytest.mark.filterwarnings('error')
NAN = float('nan')
METHODS = ['random', 'MICLe']
LONG = [f'a method whose name has 40 characters, no {i}' for i in range(8)]
CLASSES = [f'class {i} with a very long dermatological name' for i in range(27)]


def rates(labels, scores, **names):
    false, true, _ = sklearn.metrics.roc_curve(labels, scores)
    return pd.DataFrame(names | {'false_positive_rate': false, 'true_positive_rate': true})


def curves_of(classes, methods):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60)
    return pd.concat(
        [
            rates(labels, random.normal(size=60) + labels, **{'class': name, 'method': method})
            for name in classes
            for method in methods
        ]
    )


def bins_of(labels, probabilities, **names):
    curve = calibration.reliability(labels, probabilities)
    return pd.DataFrame(
        names | {'confidence': curve.confidence, 'accuracy': curve.accuracy, 'count': curve.count}
    )


def test_roc_writes_sklearns_area_of_each_class_and_method(figures):
    random = np.random.default_rng(0)
    parts, areas = [], {}
    for name in ('acne', 'eczema'):
        labels = random.integers(0, 2, 200)
        for i, method in enumerate(METHODS):
            scores = random.normal(size=200) + i * labels
            parts.append(rates(labels, scores, **{'class': name, 'method': method}))
            areas[name, method] = sklearn.metrics.roc_auc_score(labels, scores)
    figure = multiples.roc(pd.concat(parts))
    assert written(figure.legends[0].texts) == METHODS
    for axes, name in zip(figure.axes, ('acne', 'eczema'), strict=True):
        assert axes.get_legend().get_title().get_text() == f'{name}\nAUC'
        expected = [f'{areas[name, method]:.3f}' for method in METHODS]
        assert written(axes.get_legend().texts) == expected
        keys = [(key.get_color(), key.get_linestyle()) for key in axes.get_legend().get_lines()]
        assert keys == [(line.get_color(), line.get_linestyle()) for line in axes.lines[1:]]
    drawn = figure.axes[1].lines[2].get_xydata()
    np.testing.assert_array_equal(drawn, parts[3].iloc[:, 2:])


def test_classes_that_are_not_drawn_are_named(figures):
    figure = multiples.roc(curves_of(['a', 'b', 'c', 'd'], METHODS), most=2)
    assert sum(axes.axison for axes in figure.axes) == 2
    assert figure._supxlabel.get_text() == 'Not drawn: c, d.'
    assert multiples.roc(curves_of(['a', 'b'], METHODS), most=2)._supxlabel is None


def test_reliability_writes_the_calibration_error(figures):
    random = np.random.default_rng(0)
    parts, errors = [], []
    for method, scale in (('random', 1), ('MICLe', 4)):
        logits = scale * random.normal(size=(300, 3))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        labels = random.integers(0, 3, 300)
        parts.append(bins_of(labels, probabilities, method=method))
        errors.append(calibration.expected_calibration_error(labels, probabilities))
    figure = multiples.reliability(pd.concat(parts))
    (axes,) = figure.axes
    assert written(axes.get_legend().texts) == [f'{error:.3f}' for error in errors]
    assert axes.get_legend().get_title().get_text() == 'ECE'
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('confidence', 'accuracy')
    filled = parts[0][parts[0]['count'] > 0]
    assert len(filled) < 15  # three classes: no confidence below a third
    np.testing.assert_array_equal(
        axes.lines[1].get_xydata(), filled[['confidence', 'accuracy']].to_numpy()
    )


def test_binary_reliability_has_a_panel_for_each_finding(figures):
    bins = pd.DataFrame(
        {
            'class': ['oedema', 'oedema', 'effusion'],
            'method': 'MICLe',
            'confidence': [0.2, 0.9, 0.5],
            'accuracy': [0.1, 0.6, 0.5],
            'count': [30, 10, 5],
        }
    )
    figure = multiples.reliability(bins, binary=True)
    titles = [axes.get_legend().get_title().get_text() for axes in figure.axes]
    assert titles == ['oedema\nECE', 'effusion\nECE']
    assert written(figure.axes[0].get_legend().texts) == ['0.150']  # 3/4 of 0.1, 1/4 of 0.3
    assert figure.axes[0].get_ylabel() == 'observed frequency'
    assert figure.axes[0].get_xlabel() == 'predicted probability'


def run(metric, method, name, steps, values):
    return pd.DataFrame(
        {'metric': metric, 'method': method, 'run': name, 'step': steps, 'value': values}
    )


def test_learning_curves_average_what_all_runs_have(figures):
    points = pd.concat(
        [
            run('AUC', 'a', 's0', [30, 10, 20], [0.8, 0.4, 0.6]),
            run('AUC', 'a', 's1', [10, 20, 30, 40], [0.6, 0.6, NAN, 0.8]),  # 0.7 at 30
            run('AUC', 'b', 's0', [10, 20], [0.1, 0.2]),
            run('loss', 'b', 's0', [10, 20], [np.inf, 3.0]),
        ]
    )
    figure = multiples.learning_curves(points)
    auc, loss = figure.axes
    first, second, mean, *_ = auc.lines
    np.testing.assert_allclose(first.get_xydata(), [(10, 0.4), (20, 0.6), (30, 0.8)])
    np.testing.assert_allclose(second.get_xydata(), [(10, 0.6), (20, 0.6), (40, 0.8)])
    np.testing.assert_allclose(mean.get_xydata(), [(10, 0.5), (20, 0.6), (30, 0.75)])
    assert first.get_alpha() < 0.5 and not mean.get_alpha()
    assert auc.lines[3].get_color() != mean.get_color()
    np.testing.assert_array_equal(loss.lines[0].get_xydata(), [(20, 3)])
    assert (auc.get_title(), loss.get_title()) == ('AUC', 'loss')
    assert written(figure.legends[0].texts) == ['a', 'b']


def test_runs_without_a_common_step_have_no_mean(figures):
    points = pd.concat(
        [run('AUC', 'a', 's0', [1, 2], [0, 0]), run('AUC', 'a', 's1', [5, 6], [1, 1])]
    )
    lines = multiples.learning_curves(points).axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == [2, 2, 0]


def test_embeddings_share_their_classes(figures):
    random = np.random.default_rng(0)
    points = pd.DataFrame(random.normal(size=(90, 2)), columns=['x', 'y'])
    points['method'] = np.repeat(['a', 'b', 'c'], 30)
    points['class'] = np.tile(['acne', 'eczema', None], 30)
    points.loc[points['method'] == 'b', 'class'] = 'eczema'
    figure = multiples.embeddings(points, ('UMAP 1', 'UMAP 2'))
    drawn = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in drawn] == ['a', 'b', 'c']
    looks = set()
    for axes, method in zip(drawn, 'abc', strict=True):
        _, _, eczema = axes.collections  # below it those without a label, then acne
        own = points[(points['method'] == method) & (points['class'] == 'eczema')]
        np.testing.assert_array_equal(eczema.get_offsets(), own[['x', 'y']])
        looks.add((tuple(eczema.get_facecolor()[0]), eczema.get_paths()[0].vertices.tobytes()))
        assert axes.get_aspect() == 1
    assert len(looks) == 1
    assert written(figure.legends[0].texts) == ['acne', 'eczema', 'no label']
    assert drawn[0].get_ylabel() == 'UMAP 2' and drawn[2].get_xlabel() == 'UMAP 1'


def test_embeddings_tell_the_frequent_classes_apart(figures):
    names = np.repeat([f'class {i}' for i in range(20)], range(1, 21))
    points = pd.DataFrame({'method': 'a', 'x': range(len(names)), 'y': 0.0, 'class': names})
    figure = multiples.embeddings(points, most=3)
    shown = written(figure.legends[0].texts)
    assert shown == ['class 17', 'class 18', 'class 19', '17 rarer classes']
    _, *frequent, rarer = figure.axes[0].collections
    assert [len(dots.get_offsets()) for dots in frequent] == [18, 19, 20]
    assert len(rarer.get_offsets()) == len(names) - 18 - 19 - 20


def test_embeddings_have_27_looks(figures):
    names = [f'class number {i}' for i in range(27)]
    random = np.random.default_rng(0)
    points = pd.DataFrame(random.normal(size=(27, 2)), columns=['x', 'y'])
    figure = multiples.embeddings(points.assign(method='', **{'class': names}))
    _, *groups = figure.axes[0].collections
    looks = {(tuple(g.get_facecolor()[0]), g.get_paths()[0].vertices.tobytes()) for g in groups}
    assert len(looks) == 27 and written(figure.legends[0].texts) == names


def draw_all(methods, classes):
    yield multiples.roc(curves_of(classes, methods))
    bins = pd.DataFrame(
        {'confidence': [0.1, NAN, 0.9], 'accuracy': [0, NAN, 1], 'count': [4, 0, 9]}
    )
    by_class = [
        bins.assign(**{'class': name, 'method': method}) for name in classes for method in methods
    ]
    yield multiples.reliability(pd.concat(by_class), binary=True)
    yield multiples.reliability(pd.concat(by_class[: len(methods)]).drop(columns='class'))
    titles = ['cross-entropy (nats)', 'macro AUC on validation, the figure that is monitored']
    steps, random = np.arange(0, 50_000, 1000), np.random.default_rng(0)
    yield multiples.learning_curves(
        pd.concat(
            run(title, name, seed, steps, random.normal(size=50))
            for title in titles
            for name in methods
            for seed in 'ab'
        )
    )
    places = pd.DataFrame(random.normal(size=(len(classes) * len(methods), 2)), columns=['x', 'y'])
    names = {'method': np.repeat(methods, len(classes)), 'class': classes * len(methods)}
    yield multiples.embeddings(places.assign(**names))


@pytest.mark.parametrize(
    'methods, classes',
    [
        (METHODS, ['acne', 'eczema']),
        (LONG, CLASSES),
        (LONG[:1], CLASSES[:1]),
        (METHODS, ['W' * 40, 'a_class_name_with_underscores_of_40_chars']),
    ],
)
def test_all_text_is_legible(methods, classes, figures):
    for figure in draw_all(methods, classes):
        assert figure.get_figwidth() <= style.WIDTH
        assert_texts_apart(figure, texts_of(figure))
