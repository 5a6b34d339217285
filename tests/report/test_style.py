import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

from big_ssl.report import comparisons, design, multiples, style
from tests.report.drawn import pixels, written

pytestmark = pytest.mark.filterwarnings('error')


def test_nothing_global_is_touched():
    """No pyplot, no TensorFlow, no changed settings."""
    code = (
        'import sys, matplotlib; before = matplotlib.rcParams.copy()\n'
        'from big_ssl.report import comparisons, design, multiples, page, pictures\n'
        "pictures.intervals([('a', 0.5, 0.4, 0.6)], 'x')\n"
        'assert matplotlib.rcParams.copy().items() >= before.items()\n'
        "sys.exit('matplotlib.pyplot' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_colours_differ_for_the_colour_blind():
    """Under full deuteranopia (Vienot et al. 1999) no two colours come together."""
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in style.COLOURS]) ** 2.2
    to_lms = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    lms = rgb @ to_lms.T
    lms[:, 1] = 0.494207 * lms[:, 0] + 1.24827 * lms[:, 2]
    seen = np.clip(lms @ np.linalg.inv(to_lms).T, 0, 1) ** (1 / 2.2)
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 0.15


def test_28_looks_differ_in_two_ways():
    looks = [style.look(i) for i in range(28)]
    for ways in (('colour', 'line'), ('colour', 'marker')):
        assert len({tuple(getattr(look, way) for way in ways) for look in looks}) == 28


def test_looks_go_by_appearance_and_by_category():
    assert style.looks(pd.Series(['b', None, 'a', 'b'])) == {'b': style.look(0), 'a': style.look(1)}
    fewer = pd.Categorical(['c', 'a', None], categories=['a', 'b', 'c'])
    assert list(style.looks(pd.Series(fewer)).items()) == [
        ('a', style.look(0)),
        ('c', style.look(2)),
    ]


def test_a_table_without_rows_says_so(figures):
    for draw in (multiples.roc, design.class_frequencies, multiples.embeddings):
        figure = draw(pd.DataFrame({'class': []}))
        assert written(figure.texts) == ['nothing recorded'] and not figure.axes
    assert written(comparisons.shift(points=pd.DataFrame(), label='x').texts)


def test_pictures_are_white_and_sharp():
    table = pd.DataFrame({'group': ['a'], 'n': [3], 'value': [0.5], 'low': [0.4], 'high': [0.6]})
    shown = pixels(comparisons.subgroups(table, 'AUC'))
    assert shown.shape[1] == int(style.WIDTH * 144)
    assert np.all(shown[[0, 0, -1, -1], [0, -1, 0, -1]] == 255)
