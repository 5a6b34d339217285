"""One self-contained HTML file: text, commands, tables and pictures, no scripts, no network."""

import base64
import collections
import dataclasses
import html
import math
import re
import uuid
from collections.abc import Sequence

import pandas as pd
from etils import epath

from big_ssl.report.stylesheet import STYLE

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
    """A picture; with a name, `save_figures` writes it and the numbers drawn as files."""

    caption: str
    png: bytes
    data: pd.DataFrame | None = None
    name: str = ''

    def files(self) -> list[str]:
        """Names of its files; what is unusual in a file's name becomes a hyphen."""
        plain = re.sub(r'[^\w.+-]+', '-', self.name).strip('.-')
        kinds = ['png'] if self.data is None else ['png', 'csv']
        return [f'{plain}.{kind}' for kind in kinds] if plain else []


@dataclasses.dataclass(frozen=True)
class Section:
    """Text is plain: an empty line starts a paragraph, nothing in it is markup.

    Commands are shown exactly as they are, one below the other.
    """

    title: str
    text: str = ''
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    commands: Sequence[str] = ()


def page(
    title: str,
    sections: Sequence[Section],
    path: epath.PathLike,
    highlights: Sequence[tuple[str, object]] = (),
) -> None:
    """Writes the page to `path` (local or gs://), whole or not at all, making its folder.

    Args:
      title: of the page.
      sections: in order; each is linked to at the top.
      path: of the file.
      highlights: labels and values that stand above all sections.

    Raises:
      ValueError: a table's row is not as long as its header.
    """
    _replace(epath.Path(path), _document(title, sections, highlights).encode())


def with_distinct_names(sections: Sequence[Section]) -> list[Section]:
    """Of pictures whose files would have one name (in any case) the second one gets `-2`."""
    taken: collections.Counter[str] = collections.Counter()

    def renamed(picture: Picture) -> Picture:
        first = [*picture.files(), ''][0].casefold()
        taken[first] += 1
        again = bool(first) and taken[first] > 1
        return (
            dataclasses.replace(picture, name=f'{picture.name}-{taken[first]}')
            if again
            else picture
        )

    return [
        dataclasses.replace(each, pictures=[renamed(picture) for picture in each.pictures])
        for each in sections
    ]


def save_figures(sections: Sequence[Section], folder: epath.PathLike) -> None:
    """Writes NAME.png, and NAME.csv if it has data, of each picture with a name into the folder.

    Raises:
      ValueError: two pictures have the same name; nothing is written.
    """
    found = [(name, picture) for each in sections for picture in each.pictures
             for name in picture.files()]  # fmt: skip
    names = [name for name, _ in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f'more than one figure would be {", ".join(sorted(twice))}')
    for name, picture in found:
        if name.endswith('.csv') and picture.data is not None:
            content = picture.data.to_csv(index=False).encode()
        else:
            content = picture.png
        _replace(epath.Path(folder) / name, content)


def _replace(target: epath.Path, content: bytes) -> None:
    """Writes the file in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f'.{target.name}.{uuid.uuid4().hex}'
    try:
        partial.write_bytes(content)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _document(
    title: str, sections: Sequence[Section], highlights: Sequence[tuple[str, object]]
) -> str:
    links = ''.join(
        f'<a href="#s{i}">{html.escape(section.title)}</a>\n' for i, section in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{html.escape(title)}</h1>\n<nav aria-label="Sections">\n{links}</nav>\n'
        + _highlights(highlights)
        + ''.join(_section(i, section) for i, section in enumerate(sections))
        + '</main>\n</body>\n</html>\n'
    )


def _highlights(pairs: Sequence[tuple[str, object]]) -> str:
    rows = ''.join(
        f'<div><dt>{html.escape(label)}</dt><dd>{_cell(value)}</dd></div>\n'
        for label, value in pairs
    )
    return f'<dl>\n{rows}</dl>\n' if pairs else ''


def _section(number: int, section: Section) -> str:
    paragraphs = [part.strip() for part in section.text.split('\n\n') if part.strip()]
    pictures = ''.join(_picture(picture) for picture in section.pictures)
    return (
        f'<section id="s{number}" aria-labelledby="t{number}">\n'
        f'<h2 id="t{number}">{html.escape(section.title)}</h2>\n'
        + ''.join(f'<p>{html.escape(paragraph)}</p>\n' for paragraph in paragraphs)
        + _commands(section.commands)
        + ''.join(_table(table) for table in section.tables)
        + (f'<div class="figures">\n{pictures}</div>\n' if pictures else '')
        + '</section>\n'
    )


def _commands(commands: Sequence[str]) -> str:
    lines = '\n'.join(f'<code>{html.escape(command)}</code>' for command in commands)
    box = '<pre tabindex="0" role="region" aria-label="Commands">'
    return f'{box}{lines}</pre>\n' if commands else ''


def _table(table: Table) -> str:
    for row in table.rows:
        if len(row) != len(table.header):
            raise ValueError(f'table {table.caption!r}: a row of {len(row)} cells: {row!r}')
    numeric = [
        bool(table.rows) and all(_is_number(row[column]) for row in table.rows)
        for column in range(len(table.header))
    ]
    marks = [' class="number"' if number else '' for number in numeric]
    body = ''.join(
        '<tr>'
        + ''.join(f'<td{mark}>{_cell(value)}</td>' for mark, value in zip(marks, row, strict=True))
        + '</tr>\n'
        for row in table.rows
    )
    caption = html.escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}"><table>\n'
        f'<caption>{caption}</caption>\n{_head(table.header, marks)}'
        f'<tbody>\n{body}</tbody>\n</table></div>\n'
    )


def _head(header: Sequence[str], marks: Sequence[str]) -> str:
    """The row of column names; none where no column has one."""
    cells = ''.join(
        f'<th scope="col"{mark}>{html.escape(name)}</th>' if name else '<td></td>'
        for mark, name in zip(marks, header, strict=True)
    )
    return f'<thead><tr>{cells}</tr></thead>\n' if any(header) else ''


def _picture(picture: Picture) -> str:
    caption = html.escape(picture.caption)
    files = html.escape(', '.join(picture.files()))
    note = f'<span class="file">{files}</span>' if files else ''
    width = round(int.from_bytes(picture.png[16:20]) / _DOTS_PER_PIXEL)  # PNG: IHDR's first field
    data = base64.b64encode(picture.png).decode('ascii')
    return (
        f'<figure style="--width: {width}px">\n<figcaption>{caption}{note}</figcaption>\n'
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
