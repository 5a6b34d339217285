import base64
import html.parser
import io
import re

import numpy as np
import PIL.Image
import pytest
from etils import epath

from big_ssl.report import page as page_lib
from big_ssl.report.page import Picture, Section, Table, page

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
        HOSTILE, HOSTILE, [Table(HOSTILE, [HOSTILE], [[HOSTILE]])], [Picture(HOSTILE, png())]
    )
    read = Reader(written(tmp_path, section, title=HOSTILE))
    assert 'script' not in {tag for tag, _ in read.tags}
    # Title twice, link, heading, paragraph, caption, two cells, picture's caption; alt is apart.
    assert read.text.count(HOSTILE) == 9
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


def test_light_and_dark_define_the_same_colours():
    light, dark = re.findall(r':root \{(.*?)\}', page_lib._STYLE, re.DOTALL)
    names = [set(re.findall(r'(--\w+):', part)) for part in (light, dark)]
    assert names[0] == names[1] and len(names[0]) >= 5
