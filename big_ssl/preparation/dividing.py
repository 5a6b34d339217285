"""Splits of the images of a record set: made where there are none, and kept apart."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from big_ssl.data import splits
from big_ssl.data.manifest import SEPARATOR, UNCERTAIN
from big_ssl.errors import InputError
from big_ssl.preparation import duplicates
from big_ssl.preparation.duplicates import Duplicates
from big_ssl.preparation.settings import DROP, KEEP, Settings

_PRECEDENCE = {'train': 0, 'val': 1, 'test': 3}  # of two copies that in the higher one stays


@dataclasses.dataclass(frozen=True)
class Divided:
    """Images with their splits.

    Attributes:
      images: those that stay.
      dropped: those that do not, with a `problem`.
      duplicates: what was found in more than one split, and positions in `seen`.
      seen: the images that were compared.
      announcements: what a person should be told.
    """

    images: pd.DataFrame
    dropped: pd.DataFrame
    duplicates: Duplicates
    seen: pd.DataFrame
    announcements: tuple[str, ...] = ()


class InTwoSplits(InputError):
    """Pictures are in more than one split; `table` lists the pairs."""

    def __init__(self, message: str, table: pd.DataFrame) -> None:
        super().__init__(message)
        self.table = table


def units(images: pd.DataFrame) -> np.ndarray:
    """A name for what may not be divided: the patient, else the case, else the file."""
    file = images['image_path']
    if 'frames' in images:
        file = file.where(images['frames'] == 1, file.map(_without_frame))
    columns = (file, images['case_id'], images['patient_id'])
    return splits.unit_names(*(column.to_numpy(object) for column in columns))


def _without_frame(name: str) -> str:
    return name.rpartition('#')[0]


def made(
    images: pd.DataFrame, settings: Settings, known: Mapping[str, str]
) -> tuple[np.ndarray, tuple[str, ...], Duplicates]:
    """A split for each image, by patient and stratified by label; copies of a picture together.

    Args:
      images: `image_path`, `case_id`, `patient_id`, `label`, `perceptual_hash`, `sha256`, in the
        order of the table; `frames` of the file, where an image can be one of several.
      known: units whose split is known already; they are not moved.

    Returns:
      The splits, what a person should be told, and what is still in more than one split.
    """
    names = units(images)
    frames = {name: split for name, split in known.items() if name.startswith('image ')}
    known = {_without_frame(name): split for name, split in frames.items()} | dict(known)
    labels = [_labels(label) for label in images['label'].tolist()]
    split = splits.stratified_split(names, labels, settings.split_seed, settings.shares, known)
    of_unit = dict(zip(names.tolist(), split.tolist()))
    leader: dict[str, str] = {}
    while True:
        found = duplicates.across_splits(images.assign(split=_of(names, of_unit)), progress=True)
        before = dict(of_unit)
        _together(names, found, of_unit, known, leader)
        if of_unit == before:
            break
    moved = sum(of_unit[name] != there for name, there in zip(names.tolist(), split.tolist()))
    split = _of(names, of_unit)
    counts = ', '.join(f'{name} {(split == name).sum()}' for name in splits.NAMES)
    lines = [
        f'no splits in the table: split by patient (by case or image where none is known), '
        f'stratified by label, seed {settings.split_seed}: {counts} images'
    ]
    if moved:
        lines.append(f'{moved} images went to the split of a picture that is a copy of theirs')
    return split, tuple(lines), found


def _of(names: np.ndarray, of_unit: Mapping[str, str]) -> np.ndarray:
    return np.array([of_unit[name] for name in names.tolist()], object)


def _together(
    names: np.ndarray,
    found: Duplicates,
    of_unit: dict[str, str],
    known: Mapping[str, str],
    leader: dict[str, str],
) -> None:
    """Moves units that share a picture to the split of the first of them (or of a known one).

    Args:
      names: unit of each image.
      found: what is in more than one split.
      of_unit: split of each unit, changed.
      known: units that are not moved.
      leader: of what was found to belong together before, changed (a disjoint-set forest).
    """
    order = {name: i for i, name in enumerate(of_unit)}

    def find(name: str) -> str:
        while (above := leader.get(name, name)) != name:
            name = above
        return name

    members = pd.Series(names).groupby(found.group).unique()
    for a, b in zip(found.pairs['a'], found.pairs['b']):
        alike = {find(name) for name in (*members[a], *members[b])}
        first = min(alike, key=lambda name: (name not in known, order[name]))
        leader.update(dict.fromkeys(alike - {first}, first))
    of_unit.update({name: of_unit[find(name)] for name in of_unit if name not in known})


def apart(images: pd.DataFrame, settings: Settings, compared: Duplicates | None = None) -> Divided:
    """Finds pictures that are in more than one split, and does with them what the settings say.

    Args:
      images: with their splits; further columns as for `made`.
      settings: what is to be done.
      compared: what `made` found, if these splits are from there.

    Raises:
      InTwoSplits: there are some, and nothing is said.
    """
    images = images.reset_index(drop=True)
    found = compared or duplicates.across_splits(images, progress=True)
    nothing = images.iloc[:0].assign(problem='')
    if found.pairs.empty or settings.duplicates == KEEP:
        lines = (
            (f'{len(found.pairs)} pictures are in more than one split, and are kept',)
            if len(found.pairs)
            else ()
        )
        return Divided(images, nothing, found, images, lines)
    if settings.duplicates != DROP:
        raise InTwoSplits(_complaint(images, found), listed(images, found))
    split = images['split'].to_numpy()
    rank = np.array([_PRECEDENCE.get(name, 2) for name in split[found.first]])
    a, b = found.pairs['a'].to_numpy(), found.pairs['b'].to_numpy()
    higher = np.where(rank[a] > rank[b], a, b)
    lower = np.where(rank[a] > rank[b], b, a)
    copy_of = dict(zip(lower.tolist(), higher.tolist()))
    goes = np.isin(found.group, lower)
    reasons = [
        f'the same picture as {images["listed_in"][found.first[copy_of[group]]]} in split '
        f'{split[found.first[copy_of[group]]]!r}'
        for group in found.group[goes].tolist()
    ]
    dropped = images[goes].assign(problem=reasons)
    lines = (f'{len(dropped)} images are copies of one in another split, and are left out',)
    return Divided(images[~goes], dropped, found, images, lines)


def _labels(label: str) -> tuple[str, ...]:
    parts = (part.strip().removesuffix(UNCERTAIN) for part in label.split(SEPARATOR))
    return tuple(part for part in parts if part)


def listed(images: pd.DataFrame, found: Duplicates) -> pd.DataFrame:
    """The first images of each pair of groups, and the bits in which they differ."""
    columns = ['listed_in', 'image_path', 'case_id', 'patient_id', 'label', 'split']
    sides = [
        images.iloc[found.first[found.pairs[side]]][columns].reset_index(drop=True)
        for side in ('a', 'b')
    ]
    table = pd.concat([sides[0].add_suffix('_1'), sides[1].add_suffix('_2')], axis=1)
    return table.assign(differing_bits=found.pairs['bits'])


def _complaint(images: pd.DataFrame, found: Duplicates) -> str:
    a, b, bits = found.pairs.iloc[0]
    one, other = (images.iloc[found.first[group]] for group in (a, b))
    return (
        f'{one["where"]}: {one["image_path"]} (split {one["split"]!r}) is the same picture as '
        f'{other["image_path"]} (split {other["split"]!r}, {other["listed_in"]}; {bits} of 256 '
        f'bits of their hashes differ): {len(found.pairs)} pictures are in more than one split; '
        'correct the splits, or give --duplicates=drop (leaves out the copy for training) or =keep'
    )
