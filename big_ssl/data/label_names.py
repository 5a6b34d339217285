"""From the label names of a data set to those of a task.

A map is a CSV with the columns `label` and `class`; an empty class means that such a label is none
of the task's classes. Names are compared without regard to case. Lines that begin with `#` say who
made it.
"""

import collections
import csv
import dataclasses
import functools
import io
import logging
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from big_ssl.data.manifest import SEPARATOR, UNCERTAIN, Manifest
from big_ssl.data.text import Text
from big_ssl.errors import InputError

log = logging.getLogger(__name__)

IGNORE = 'ignore'
_SHIPPED = Path(__file__).parent / 'label_maps'


@dataclasses.dataclass(frozen=True)
class Names:
    """What the labels of a table mean.

    Attributes:
      classes: of the task, in the order of the scores; none: whatever the labels are.
      other: the class of every label that is none of them; 'ignore': such a label is left out;
        '': it is an error.
      meaning: label, as `_folded`, to class; '' is none of the classes.
      negative: of a multi-label task, the label that means none of the classes.
      multilabel: labels are joined by '|', and 'LABEL?' is an uncertain one.
    """

    classes: tuple[str, ...]
    other: str
    meaning: Mapping[str, str]
    negative: str
    multilabel: bool

    @functools.cached_property
    def spelt(self) -> dict[str, str]:
        """The task's names by their `_folded` ones."""
        known = (*self.classes, *([self.negative] if self.multilabel else []))
        return {_folded(name): name for name in known}


def names_of(labels: ConfigDict, classes: tuple[str, ...] = ()) -> Names:
    """The names that `config.labels` gives.

    Args:
      labels: `config.labels`.
      classes: of a trained task; then `labels.classes` must be empty or the same.

    Raises:
      InputError: the map cannot be read, `other` is none of a trained task's classes, there is an
        `other` without classes, or two classes have one name.
    """
    meaning = _read_map(labels.map) if labels.map else {}
    chosen = tuple(labels.classes) or tuple(dict.fromkeys(filter(None, meaning.values())))
    _check_classes(chosen)
    if chosen and labels.other not in ('', IGNORE, *chosen):
        chosen = (*chosen, labels.other)
    if classes:
        if tuple(labels.classes) not in ((), classes):
            raise InputError('config: labels.classes is not what the model was trained with')
        if labels.other not in ('', IGNORE, *classes):
            raise InputError(
                f'config: labels.other={labels.other} is no class of the model '
                f'({", ".join(classes)}); labels.other=ignore leaves such labels out'
            )
        chosen = classes
    if labels.other and not chosen:
        raise InputError('config: labels.other needs labels.classes or labels.map')
    for target in filter(None, meaning.values()):
        if target not in chosen:
            raise InputError(
                f'{labels.map}: class {target!r} is none of the task ({", ".join(chosen)})'
            )
    return Names(chosen, labels.other, meaning, labels.negative, labels.kind == 'multi')


def rename(manifest: Manifest, names: Names) -> Manifest:
    """The manifest with its labels in the task's names.

    Raises:
      InputError: a label is none of the classes and `other` is empty.
    """
    if not names.classes and not names.meaning:
        return manifest
    outside: collections.Counter[str] = collections.Counter()
    labels = manifest.label[:]
    for row, label in enumerate(labels):
        if label:
            labels[row] = _renamed(label, names, outside, manifest.where(row))
    if outside:
        found = ', '.join(f'{name} ({count})' for name, count in outside.most_common(12))
        fate = 'left out' if names.other == IGNORE else f'counted as {names.other!r}'
        log.info('%s: labels outside the task are %s: %s', manifest.path, fate, found)
    return dataclasses.replace(manifest, label=Text(labels), label_in_table=manifest.label)


def _renamed(joined: str, names: Names, outside: collections.Counter[str], where: str) -> str:
    if not names.multilabel:
        return _class_of(joined, names, outside, where)
    kept: dict[str, str] = {}
    for part in filter(None, map(str.strip, joined.split(SEPARATOR))):
        mark = UNCERTAIN if part.endswith(UNCERTAIN) else ''
        label = part.removesuffix(UNCERTAIN).strip()
        name = _class_of(label, names, outside, where)
        if not name and _folded(label) == _folded(names.negative):
            name = names.negative
        if name and not (mark and name in kept):  # of two that mean one class the certain one holds
            kept[name] = mark
    if names.meaning.get(_folded(names.negative)) == '' and kept.get(names.negative) == '':
        del kept[names.negative]  # the map makes nothing of it; in doubt it is doubt of every class
    return SEPARATOR.join(name + mark for name, mark in kept.items()) or SEPARATOR


def _class_of(label: str, names: Names, outside: collections.Counter[str], where: str) -> str:
    if (known := names.meaning.get(_folded(label))) is not None:
        return known
    if label in names.classes or not names.classes:
        return label
    if known := names.spelt.get(_folded(label)):
        return known
    if not names.other:
        raise InputError(
            f'{where}: label {label!r} is none of the classes ({", ".join(names.classes)}); '
            'map it by --config.labels.map, or give --config.labels.other=CLASS (or =ignore)'
        )
    outside[label] += 1
    return '' if names.other == IGNORE else names.other


def _folded(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


def one_name(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of these names that are one but for case (or how accents are stored)."""
    known: dict[str, str] = {}
    for name in names:
        if other := known.get(_folded(name)):
            return other, name
        known[_folded(name)] = name
    return None


def _check_classes(classes: Iterable[object]) -> None:
    names: list[str] = []
    for name in classes:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f'config: labels.classes: {name!r} is no name; write it as "{name}"')
        names.append(name)
    if pair := one_name(names):
        raise InputError(f'config: classes {pair[0]!r} and {pair[1]!r} are one name')


def _read_map(path: str) -> dict[str, str]:
    shipped = _SHIPPED / f'{path}.csv'
    file = epath.Path(shipped if shipped.exists() else path)
    try:
        text = file.read_bytes().decode('utf-8-sig')
        lines = (line for line in io.StringIO(text) if line.strip() and not line.startswith('#'))
        found = csv.DictReader(lines, skipinitialspace=True)
        rows, columns = list(found), set(found.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        available = ', '.join(sorted(path.stem for path in _SHIPPED.glob('*.csv')))
        raise InputError(
            f'config: labels.map={path} cannot be read ({error}); it is a CSV with the columns '
            f'label and class, or one of those shipped: {available}'
        ) from None
    if not {'label', 'class'} <= columns:
        raise InputError(f'{path}: the columns label and class must be there')
    if not rows:
        raise InputError(f'{path}: no row after the header')
    meaning: dict[str, str] = {}
    for row in rows:
        if row['class'] is None or not (row['label'] or '').strip():
            raise InputError(f'{path}: row {row["label"]!r} needs a label, a comma and a class')
        label, target = row['label'].strip(), row['class'].strip()
        if meaning.setdefault(_folded(label), target) != target:
            raise InputError(f'{path}: label {label!r} is mapped twice')
    return meaning
