"""One self-contained HTML file: text, tables and pictures, without scripts or network."""

import base64
import dataclasses
import html
import math
import uuid
from collections.abc import Sequence

from etils import epath

_STYLE = """
:root { color-scheme: light dark; --text: #1d1f23; --soft: #5b626d; --line: #d9dde3;
  --page: #f5f6f8; --card: #ffffff; --link: #0062a3; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8eb; --soft: #a3abb7; --line: #3a404a;
  --page: #16181c; --card: #1f2228; --link: #6cb8f0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .8rem; }
h2 { font-size: 1.25rem; margin: 0 0 .6rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin-bottom: 1.5rem; }
a { color: var(--link); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.2rem 1.4rem; margin-bottom: 1.2rem; }
p { max-width: 46rem; margin: 0 0 .8rem; overflow-wrap: anywhere; white-space: pre-line; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .9rem;
  padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 0 0 1.2rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px;
  padding: .4rem; }
@media print { body { background: none; } section { break-inside: avoid; border: 0; } }
"""
_DOTS_PER_PIXEL = 1.5  # pictures have 144 dots an inch, a CSS inch has 96 pixels
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells are text or numbers; numbers are aligned right, floats get three decimals."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclasses.dataclass(frozen=True)
class Picture:
    caption: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class Section:
    """Text is plain: an empty line starts a paragraph, nothing in it is markup."""

    title: str
    text: str = ''
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def page(title: str, sections: Sequence[Section], path: epath.PathLike) -> None:
    """Writes the page to `path` (local or gs://), whole or not at all, making its folder.

    Raises ValueError if a table's row is not as long as its header.
    """
    target = epath.Path(path)
    text = _document(title, sections)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f'.{target.name}.{uuid.uuid4().hex}'
    try:
        partial.write_text(text, encoding='utf-8')
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _document(title: str, sections: Sequence[Section]) -> str:
    links = ''.join(
        f'<a href="#s{i}">{html.escape(section.title)}</a>\n' for i, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{html.escape(title)}</h1>\n<nav>{links}</nav>\n'
        + ''.join(_section(i, section) for i, section in enumerate(sections))
        + '</main>\n</body>\n</html>\n'
    )


def _section(number: int, section: Section) -> str:
    paragraphs = [part.strip() for part in section.text.split('\n\n') if part.strip()]
    return (
        f'<section id="s{number}">\n<h2>{html.escape(section.title)}</h2>\n'
        + ''.join(f'<p>{html.escape(paragraph)}</p>\n' for paragraph in paragraphs)
        + ''.join(_table(table) for table in section.tables)
        + ''.join(_picture(picture) for picture in section.pictures)
        + '</section>\n'
    )


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(f'table {table.caption!r}: a row of {len(row)} cells: {row!r}')
    numeric = [
        bool(table.rows) and all(_is_number(row[column]) for row in table.rows)
        for column in range(len(table.header))
    ]
    marks = [' class="number"' if number else '' for number in numeric]
    head = ''.join(
        f'<th{mark}>{html.escape(name)}</th>'
        for mark, name in zip(marks, table.header, strict=True)
    )
    body = ''.join(
        '<tr>'
        + ''.join(f'<td{mark}>{_cell(value)}</td>' for mark, value in zip(marks, row, strict=True))
        + '</tr>\n'
        for row in table.rows
    )
    return (
        f'<div class="scroll"><table>\n<caption>{html.escape(table.caption)}</caption>\n'
        f'<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n'
    )


def _picture(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    width = round(int.from_bytes(picture.png[16:20]) / _DOTS_PER_PIXEL)  # PNG: IHDR's first field
    data = base64.b64encode(picture.png).decode('ascii')
    return (
        f'<figure>\n<figcaption>{caption}</figcaption>\n'
        f'<img alt="{caption}" width="{width}" src="data:image/png;base64,{data}">\n</figure>\n'
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    """Escaped text; floats with three decimals, or three digits where that would hide them."""
    if not isinstance(value, float):
        return html.escape(str(value))
    if math.isnan(value):
        return '–'
    return f'{value:.3f}' if value == 0 or 0.01 <= abs(value) < 1000 else f'{value:.3g}'
