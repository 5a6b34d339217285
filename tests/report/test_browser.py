"""The page as Chromium shows it, on a desktop and on a phone."""

import io

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from big_ssl.report import comparisons, design, multiples
from big_ssl.report.page import Picture, Section, Table, page
from tests.report import browser

WIDTHS = pytest.mark.parametrize('width, mobile', [(1280, False), (360, True)])
LONG = 'a_name_without_any_place_to_break_it_' * 4


@pytest.fixture(scope='module')
def chromium():
    if browser.find() is None:
        pytest.skip(f'none of {", ".join(browser.NAMES)} is installed')
    with browser.Browser() as started:
        yield started


def faults(visit, url, width):
    """What a reader would stumble over."""
    found = [f'console: {text}' for text in visit.complaints]
    found += [f'not shown: {alt}' for alt in visit.broken]
    found += [f'asked for {asked}' for asked in visit.requests
              if asked != url and not asked.startswith('data:')]  # fmt: skip
    return found + (['wider than the window'] if visit.width > width else [])


def opened(chromium, path, width, mobile):
    return chromium.visit(path.as_uri(), width, mobile), path.as_uri()


def all_kinds():
    """Sections with everything that a page can hold, some of it too wide for a phone."""
    methods = ['random', 'supervised ImageNet', 'SimCLR natural, then in-domain (stacked)']
    points = pd.DataFrame(
        {'method': methods, 'value': [0.6, 0.7, 0.8], 'low': 0.55, 'high': 0.85, 'split': 'test'}
    )
    trials = pd.DataFrame(
        {'learning_rate': np.logspace(-6, 0, 16), 'weight_decay': 0.0, 'value': np.arange(16) / 16}
    )
    steps = pd.DataFrame({'metric': 'AUC', 'method': 'a', 'run': 0, 'step': range(9), 'value': 0.5})
    header = ['method', LONG, *(f'column {i}' for i in range(14))]
    wide = Table(f'A wide table of {LONG}', header, [['a', LONG, *range(14)]])
    return [
        Section('Text', f'A paragraph.\n\n{LONG}'),
        Section('Tables', tables=[wide, Table('Facts', ['', ''], [['files', LONG]])]),
        Section(
            f'Pictures of {LONG}',
            pictures=[
                Picture('By split', comparisons.by_split(points, 'AUC'), points, 'by_split'),
                Picture('Search', design.search(trials, 'AUC'), trials, f'search {LONG}'),
                Picture('Course', multiples.learning_curves(steps)),
            ],
        ),
        Section('Commands', commands=['make demo', f'python -m big_ssl.main --config={LONG * 3}']),
    ]


@WIDTHS
def test_a_page_with_everything_is_shown_without_a_fault(chromium, tmp_path, width, mobile):
    path = tmp_path / 'report.html'
    page(f'Study of {LONG}', all_kinds(), path, [('done', '7 of 8'), (LONG, LONG), ('AUC', 0.7)])
    visit, url = opened(chromium, path, width, mobile)
    assert visit.pictures == 3
    assert faults(visit, url, width) == []
    shown = np.asarray(PIL.Image.open(io.BytesIO(visit.screenshot)).convert('L'))
    assert shown.shape == (visit.height * (1 + mobile), width * (1 + mobile))
    assert np.median(shown) > 230  # light, though the reader prefers dark pages


def broken_picture(path):
    whole = design.search(pd.DataFrame({'learning_rate': [1], 'weight_decay': 0, 'value': 1}), 'x')
    page('Title', [Section('A', pictures=[Picture('cut', whole[:60])])], path)


def console_error(path):
    path.write_text('<!doctype html><script>console.error("gone", 1)</script>')


def script_error(path):
    path.write_text('<!doctype html><script>nothing()</script>')


def overflow(path):
    path.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width">'
        '<div style="width: 2000px">x</div>'
    )


def request(path):
    path.write_text('<!doctype html><img alt="away" src="http://127.0.0.1:9/x.png">')


@pytest.mark.parametrize(
    'write, fault',
    [
        (broken_picture, 'not shown: cut'),
        (console_error, 'console: gone 1'),
        (script_error, 'console: Uncaught'),
        (overflow, 'wider than the window'),
        (request, 'asked for http://127.0.0.1:9/x.png'),
    ],
)
@WIDTHS
def test_faults_are_found(chromium, tmp_path, write, fault, width, mobile):
    write(tmp_path / 'page.html')
    visit, url = opened(chromium, tmp_path / 'page.html', width, mobile)
    assert fault in faults(visit, url, width)


def test_the_policy_of_a_page_keeps_scripts_and_the_network_out(chromium, tmp_path):
    path = tmp_path / 'report.html'
    page('Title', [Section('A')], path)
    intruder = '<script>document.body.remove()</script><img alt="x" src="http://127.0.0.1:9/x.png">'
    path.write_text(path.read_text().replace('</main>', f'{intruder}</main>'))
    visit, _ = opened(chromium, path, 1280, False)
    assert sum('Content Security Policy' in text for text in visit.complaints) == 2
    assert visit.broken == ['x'] and visit.pictures == 1  # the body is still there


def test_a_browser_that_is_gone_is_noticed(tmp_path):
    if browser.find() is None:
        pytest.skip(f'none of {", ".join(browser.NAMES)} is installed')
    with browser.Browser() as started, pytest.raises(ConnectionError, match='has ended'):
        started._send('Browser.crash')
