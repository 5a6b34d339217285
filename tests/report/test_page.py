import base64
import html
import html.parser
import io
import re

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from etils import epath

from big_ssl.report import stylesheet
from big_ssl.report.page import Picture, Section, Table, page, save_figures, with_distinct_names

HOSTILE = '<script>alert("1")</script> & \'quoted\''


def png(width=300, height=20):
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, 'png')
    return file.getvalue()


class Reader(html.parser.HTMLParser):
    """Collects tags with attributes, the text, and the cells of each row; checks the nesting."""

    VOID = {'meta', 'img'}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.rows = [], [], '', []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != 'style':
            self.text += data
        if self.open and self.open[-1] in ('td', 'th'):
            self.rows[-1].append(data)


def written(tmp_path, *sections, title='Title'):
    page(title, sections, tmp_path / 'report.html')
    return (tmp_path / 'report.html').read_text(encoding='utf-8')


def test_all_text_is_escaped(tmp_path):
    section = Section(
        HOSTILE,
        HOSTILE,
        [Table(HOSTILE, [HOSTILE], [[HOSTILE]])],
        [Picture(HOSTILE, png())],
        [HOSTILE],
    )
    read = Reader(written(tmp_path, section, title=HOSTILE))
    assert 'script' not in {tag for tag, _ in read.tags}
    # Title twice, link, heading, paragraph, command, caption, two cells, picture's caption; alt is
    # apart.
    assert read.text.count(HOSTILE) == 10
    assert [attrs['alt'] for tag, attrs in read.tags if tag == 'img'] == [HOSTILE]


def test_the_file_needs_nothing_else(tmp_path):
    picture = png()
    text = written(tmp_path, Section('A', pictures=[Picture('p', picture)]), Section('B'))
    read = Reader(text)
    (image,) = [attrs for tag, attrs in read.tags if tag == 'img']
    prefix = 'data:image/png;base64,'
    assert image['src'].startswith(prefix)
    assert base64.b64decode(image['src'].removeprefix(prefix)) == picture
    assert image['width'] == '200'  # 300 dots at 144 an inch are 200 pixels at 96
    assert not re.search(r'https?:|@import|url\(|<script|<link', text)
    links = [attrs['href'].removeprefix('#') for tag, attrs in read.tags if tag == 'a']
    assert links == [attrs['id'] for tag, attrs in read.tags if tag == 'section']


def test_numbers_are_aligned_and_legible(tmp_path):
    rows = [['top1', 0.5, 12], ['rate', 1e-6, 3], ['none', float('nan'), 0], ['big', 12345.6, 1]]
    read = Reader(written(tmp_path, Section('A', tables=[Table('c', ['m', 'value', 'n'], rows)])))
    assert read.rows == [
        ['m', 'value', 'n'],
        ['top1', '0.500', '12'],
        ['rate', '1e-06', '3'],
        ['none', '–', '0'],
        ['big', '1.23e+04', '1'],
    ]
    cells = [attrs.get('class') for tag, attrs in read.tags if tag == 'td']
    assert cells == [None, 'number', 'number'] * 4


def test_paragraphs_are_split_at_empty_lines(tmp_path):
    read = Reader(written(tmp_path, Section('A', 'one\ntwo\n\n\nthree\n')))
    assert [tag for tag, _ in read.tags].count('p') == 2


def test_a_ragged_table_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="table 'c': a row of 1 cells"):
        written(tmp_path, Section('A', tables=[Table('c', ['a', 'b'], [['x']])]))
    assert not list(tmp_path.iterdir())


def test_folders_are_made_and_a_page_is_replaced(tmp_path):
    target = epath.Path(tmp_path) / 'deep' / 'report.html'
    page('first', [], target)
    page('second', [], str(target))
    assert 'second' in target.read_text() and 'first' not in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ['report.html']


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    target = tmp_path / 'report.html'
    page('first', [], target)

    def full_disk(self, target):
        raise OSError('no space left')

    monkeypatch.setattr(type(epath.Path(tmp_path)), 'replace', full_disk)
    with pytest.raises(OSError, match='no space'):
        page('second', [], target)
    assert 'first' in target.read_text()
    assert list(tmp_path.iterdir()) == [target]


def test_colours_are_light_and_legible():
    colours = dict(re.findall(r'--(\w+): (#\w{6})', stylesheet.STYLE))
    assert 'color-scheme: light;' in stylesheet.STYLE and 'prefers-color' not in stylesheet.STYLE
    for back in ('page', 'card', 'code'):
        assert luminance(colours[back]) > 0.85
        for front in ('text', 'soft', 'link'):
            contrast = (luminance(colours[back]) + 0.05) / (luminance(colours[front]) + 0.05)
            assert contrast >= 4.5  # WCAG 2.2, success criterion 1.4.3


def luminance(colour):
    """Relative luminance, WCAG 2.2."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_commands_can_be_copied_as_they_are(tmp_path):
    commands = ["python -m a --x='1 & <2>'", '  b \\', '']
    text = written(tmp_path, Section('A', commands=commands), Section('B'))
    shown = re.findall(r'<code>(.*?)</code>', text)
    assert [html.unescape(each) for each in shown] == commands
    assert text.count('<pre') == 1
    inside = re.search(r'<pre[^>]*>(.*?)</pre>', text, re.DOTALL)[1]
    assert html.unescape(re.sub(r'</?code>', '', inside)) == '\n'.join(commands)


def test_highlights_stand_before_all_sections(tmp_path):
    pairs = [('macro AUC', 0.71234), (HOSTILE, 'a < b')]
    page('Title', [Section('A')], tmp_path / 'report.html', pairs)
    text = (tmp_path / 'report.html').read_text()
    assert re.findall(r'<dt>(.*?)</dt><dd>(.*?)</dd>', text) == [
        ('macro AUC', '0.712'),
        (html.escape(HOSTILE), 'a &lt; b'),
    ]
    assert text.index('</dl>') < text.index('<section')
    assert '<dl>' not in written(tmp_path, Section('A'))


def test_what_a_screen_reader_needs(tmp_path):
    table = Table('Figures', ['', 'AUC'], [['test', 0.5]])
    section = Section('A', tables=[table, Table('Facts', ['', ''], [['a', 'b']])])
    text = written(tmp_path, section, Section('B', commands=['c'], pictures=[Picture('p', png())]))
    read = Reader(text)
    heads = [attrs for tag, attrs in read.tags if tag == 'th']
    assert heads == [{'scope': 'col', 'class': 'number'}]  # a column without a name has no header
    assert text.count('<thead>') == 1
    assert [attrs['lang'] for tag, attrs in read.tags if tag == 'html'] == ['en']
    regions = [attrs for _, attrs in read.tags if attrs.get('role') == 'region']
    assert [region['aria-label'] for region in regions] == ['Figures', 'Facts', 'Commands']
    assert all(region['tabindex'] == '0' for region in regions)  # scrolled by keys
    ids = [attrs['id'] for tag, attrs in read.tags if tag == 'h2']
    assert ids == [attrs['aria-labelledby'] for tag, attrs in read.tags if tag == 'section']


DATA = pd.DataFrame({'method': ['a "b"', 'c,d'], 'value': [0.1, float('nan')]})


def test_figures_are_saved_with_their_numbers(tmp_path):
    sections = [
        Section('A', pictures=[Picture('one', png(30), DATA, 'auc'), Picture('none', png(40))]),
        Section('B', pictures=[Picture('two', png(50), name='pairs')]),
    ]
    save_figures(sections, tmp_path / 'deep' / 'figures')
    folder = tmp_path / 'deep' / 'figures'
    assert {path.name for path in folder.iterdir()} == {'auc.png', 'auc.csv', 'pairs.png'}
    assert (folder / 'auc.png').read_bytes() == png(30)
    assert (folder / 'pairs.png').read_bytes() == png(50)
    pd.testing.assert_frame_equal(pd.read_csv(folder / 'auc.csv'), DATA)
    save_figures([Section('A', pictures=[Picture('one', png(60), DATA, 'auc')])], folder)
    assert (folder / 'auc.png').read_bytes() == png(60)  # replaced
    assert len(list(folder.iterdir())) == 3


def test_the_page_names_the_saved_files(tmp_path):
    pictures = [Picture('one', png(), DATA, 'auc'), Picture('two', png(), name='pairs')]
    read = Reader(written(tmp_path, Section('A', pictures=[*pictures, Picture('three', png())])))
    files = [attrs for tag, attrs in read.tags if attrs.get('class') == 'file']
    assert len(files) == 2 and 'auc.png, auc.csv' in read.text and 'pairs.png' in read.text


@pytest.mark.parametrize(
    'name, file',
    [
        ('by age/years: ≥ 30', 'by-age-years-30.png'),
        ('../../etc/x', 'etc-x.png'),
        ('train+other_1.5', 'train+other_1.5.png'),
        ('Größe', 'Größe.png'),
        ('.hidden', 'hidden.png'),
    ],
)
def test_names_of_files_are_plain(name, file, tmp_path):
    picture = Picture('c', png(), name=name)
    assert picture.files() == [file]
    save_figures([Section('A', pictures=[picture])], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_figures_get_distinct_names(tmp_path):
    names = ['x', 'a b', '', 'a/b', 'A-B', '']
    pictures = [Picture('c', png(), name=name) for name in names]
    renamed = with_distinct_names(
        [Section('A', pictures=pictures[:2]), Section('B', pictures=pictures[2:])]
    )
    files = [picture.files() for section in renamed for picture in section.pictures]
    assert files == [['x.png'], ['a-b.png'], [], ['a-b-2.png'], ['A-B-3.png'], []]
    save_figures(renamed, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_two_figures_of_one_name_are_refused_and_nothing_is_written(tmp_path):
    pictures = [Picture('c', png(), name=name) for name in ('x', 'a b', 'a/b')]
    with pytest.raises(ValueError, match='more than one figure would be a-b.png'):
        save_figures([Section('A', pictures=pictures)], tmp_path / 'figures')
    assert not (tmp_path / 'figures').exists()
