"""Published trees made anew: tables with invented rows, tiny images at the published paths."""

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from big_ssl.data.manifest import read_manifest
from big_ssl.data.sources import SOURCES
from big_ssl.data.sources.published import LISTED_IN, Listing
from big_ssl.errors import InputError
from tests.helpers import COLUMNS


def plant(folder: Path, images: Iterable[str]) -> None:
    """Puts a grey image of 4 pixels at each of these paths."""
    for relative in images:
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_picture('PNG' if path.suffix == '.png' else 'JPEG'))


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new('L', (2, 2), 128).save(buffer, kind)
    return buffer.getvalue()


def write(folder: Path, name: str, *lines: str) -> Path:
    """A text file of these lines."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')
    return path


def listing(name: str, raw: Path, kept: Path) -> Listing:
    """What the adapter lists, after everything that holds for each of them was checked.

    Args:
      kept: a folder for the table that is written and read again.
    """
    found = SOURCES[name].read(str(raw))
    table = found.table
    assert {'image_path', 'case_id', 'patient_id', 'label', LISTED_IN} <= set(table.columns)
    assert all(isinstance(value, str) for column in table for value in table[column])
    assert all((raw / path).is_file() for path in table['image_path'])
    assert all(str(raw) in where for where in table[LISTED_IN])
    assert all('\n' not in line for line in found.announcements)
    paths = [str(raw / path) for path in table['image_path']]
    kept.mkdir(parents=True, exist_ok=True)
    table.assign(image_path=paths).to_csv(kept / 'table.csv', index=False)
    manifest = read_manifest(str(kept / 'table.csv'), columns=COLUMNS)
    assert manifest.label.tolist() == table['label'].tolist()
    return found


def complaint(name: str, raw: Path) -> str:
    """The message, one line, that names the folder."""
    with pytest.raises(InputError) as caught:
        SOURCES[name].read(str(raw))
    message = str(caught.value)
    assert str(raw) in message and '\n' not in message
    return message


def column(found: Listing, name: str) -> list[str]:
    return found.table[name].tolist()


def rows(found: Listing, *names: str) -> list[tuple[str, ...]]:
    """These columns, sorted."""
    return sorted(found.table[list(names)].itertuples(index=False, name=None))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def frame(path: Path) -> pd.DataFrame:
    """A table of somebody else's, as strings."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)
