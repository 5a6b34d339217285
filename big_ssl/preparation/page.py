"""`data_report.html`: what a record set holds, and what was wrong with what it was made from."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from etils import epath

from big_ssl.data.manifest import SEPARATOR, UNCERTAIN
from big_ssl.data.splits import NAMES
from big_ssl.preparation import dividing, pictures, scan
from big_ssl.preparation.dividing import Divided
from big_ssl.preparation.settings import Settings
from big_ssl.report import data_set, design
from big_ssl.report.page import Picture, Section, Table, page

_GROUPS = (1, 2, 3, 4, 5, 10, 20)  # most images in a case, of each bar but the last
_MOST_CLASSES, _MOST_ROWS, _SAMPLES, _COLUMNS = 30, 50, 6, 4
_FORMATS = ('JPEG', 'PNG', 'PNG of 16 bits')
_NONE = '(no split)'


@dataclasses.dataclass(frozen=True)
class Found:
    """What there is to tell.

    Attributes:
      images: of the record set, a row each.
      divided: what was found in more than one split.
      rejected: what was left out, a row each, with `problem`.
      announcements: a line each.
      settings: of the run.
    """

    images: pd.DataFrame
    divided: Divided
    rejected: pd.DataFrame
    announcements: tuple[str, ...]
    settings: Settings


def write(file: epath.Path, found: Found) -> None:
    """Writes the page, in one step."""
    images = found.images.assign(split=found.images['split'].replace('', _NONE))
    found_order = images['split'].unique().tolist()
    order = sorted(found_order, key=lambda name: NAMES.index(name) if name in NAMES else len(NAMES))
    images['split'] = pd.Categorical(images['split'], order)
    found = dataclasses.replace(found, images=images)
    patients = images.loc[images['patient_id'] != '', 'patient_id'].nunique()
    highlights = [
        ('images', len(images)),
        ('cases', images['case'].nunique()),
        ('patients', patients or 'not known'),
        ('left out', len(found.rejected)),
    ]
    sections = [
        _notes(found),
        _splits(images),
        _labels(images),
        _cases(images),
        _pixels(images),
        _duplicates(found),
        *_left_out(found),
        _samples(found),
    ]
    page('Data report', sections, file, highlights)


def _notes(found: Found) -> Section:
    settings = found.settings
    reading = settings.reading
    window = reading.window
    asked: list[Sequence[object]] = [
        ['images that cannot be used', settings.on_bad],
        ['one picture in two splits', settings.duplicates],
        ['ids and paths', 'salted hashes' if settings.hash_ids else 'as in the table'],
        ['window of more than 8 bits', 'own' if window is None else dataclasses.asdict(window)],
        ['made smaller to', f'{reading.shorter_side} px' if reading.shorter_side else 'not'],
    ]
    return Section(
        'What was done',
        '\n\n'.join(line[0].upper() + line[1:] for line in found.announcements)
        or 'Nothing unusual was found in the table.',
        [Table('Settings', ['setting', 'value'], asked)],
    )


def _splits(images: pd.DataFrame) -> Section:
    units = images.assign(unit=dividing.units(images))
    groups = units.groupby('split', observed=True)
    rows: list[Sequence[object]] = [
        [
            split,
            len(part),
            part['case'].nunique(),
            part['unit'].nunique(),
            int((part['label'] != '').sum()),
            f'{part["bytes"].sum() / 2**20:,.1f} MiB',
        ]
        for split, part in groups
    ]
    header = ['split', 'images', 'cases', 'patients*', 'labelled images', 'stored']
    text = '* cases or images where no patient is known: what is never in two splits.'
    return Section('Splits', text, [Table('By split', header, rows)])


def _labels(images: pd.DataFrame) -> Section:
    """Counts of cases: one that has several labels counts for each."""
    parts = images['label'].str.split(SEPARATOR, regex=False)
    exploded = images[['split', 'case']].assign(label=parts).explode('label')
    exploded['label'] = exploded['label'].str.strip()
    exploded = exploded[exploded['label'] != ''].drop_duplicates()
    if exploded.empty:
        return Section('Labels', 'No image has a label.')
    exploded['uncertain'] = exploded['label'].str.endswith(UNCERTAIN)
    cases = images.groupby('split', observed=True)['case'].nunique()
    counts = exploded.groupby(['label', 'split'], observed=True).size().unstack(fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind='stable').index]
    names = list(counts.columns)
    table = Table('Cases with each label', ['label', *names, 'all'], [
        [label, *(int(row[name]) for name in names), int(row.sum())]
        for label, row in counts.iterrows()
    ])  # fmt: skip
    shown = counts.head(_MOST_CLASSES).rename_axis('class').reset_index()
    shown = shown.melt('class', var_name='split', value_name='count')
    shown['share'] = shown['count'] / cases[shown['split']].to_numpy()
    text = (
        f'{len(counts)} labels; a case with images of several labels counts for each of them. '
        f'A label that ends in {UNCERTAIN!r} is uncertain.'
    )
    if len(counts) > _MOST_CLASSES:
        text += f' The picture shows the {_MOST_CLASSES} most frequent.'
    drawn = Picture('Share of the cases of each split', design.class_frequencies(shown), shown)
    return Section('Labels', text, [table], [drawn])


def _cases(images: pd.DataFrame) -> Section:
    size = images.groupby('case', sort=False).size().to_numpy()
    rows, low = [], 1
    for high in (*_GROUPS, int(max(size.max(), _GROUPS[-1] + 1))):
        count = int(((size >= low) & (size <= high)).sum())
        last = high > _GROUPS[-1]
        name = f'{low}+' if last else str(high) if low == high else f'{low}-{high}'
        if low <= size.max():
            rows.append((name, count))
        low = high + 1
    table = pd.DataFrame(rows, columns=['images', 'cases'])
    several = int((size > 1).sum())
    text = (
        f'{several:,} of {len(size):,} cases have two images or more: from these come positive '
        f'pairs of different images (pairing=case). The largest has {size.max()}.'
    )
    drawn = Picture('Cases by number of images', data_set.images_per_case(table), table)
    return Section('Images in a case', text, pictures=[drawn])


def _pixels(images: pd.DataFrame) -> Section:
    kinds = images.groupby(['format', 'grey'], sort=True)
    rows = [
        [_FORMATS[int(part['format'].iloc[0])], 'grey' if grey else 'colour', len(part),
         f'{part["width"].min()} x {part["height"].min()}',
         f'{part["width"].max()} x {part["height"].max()}']
        for (_, grey), part in kinds
    ]  # fmt: skip
    plain = int((images['deviation'] == 0).sum())
    turned = int((images['orientation'] != 1).sum())
    text = (
        f'{turned:,} images are turned upright by their EXIF or XMP orientation when they are '
        f'read. {plain:,} images are of a single colour.'
    )
    header = ['stored as', 'colours', 'images', 'smallest sides', 'largest sides']
    drawn = Picture('Of all images', data_set.distributions(images))
    return Section('Pixels', text, [Table('Formats', header, rows)], [drawn])


def _duplicates(found: Found) -> Section:
    images, divided = found.images, found.divided
    again = images.duplicated(['sha256', 'frame'])
    labelled = images[images['label'] != '']
    conflicts = labelled.groupby(['sha256', 'frame'])['label'].nunique()
    text = (
        f'{int(again.sum()):,} images are copies of another file, byte by byte; '
        f'{int((conflicts > 1).sum()):,} pictures have copies with different labels.\n\n'
        f'{len(divided.duplicates.pairs):,} pictures were found in more than one split, by hashes '
        'of 256 bits that differ in at most 24. A crop or a turn is not recognised.'
    )
    table = dividing.listed(divided.seen, divided.duplicates)
    if table.empty:
        return Section('Copies', text)
    shown = table.head(_MOST_ROWS)
    rows = [
        [row.image_path_1, row.split_1, row.image_path_2, row.split_2, row.differing_bits]
        for row in shown.itertuples()
    ]
    header = ['image', 'split', 'image', 'split', 'bits']
    caption = f'The first {len(shown)} of {len(table)}' if len(table) > len(shown) else 'All'
    return Section('Copies', text, [Table(caption, header, rows)], [_pairs(found)])


def _pairs(found: Found) -> Picture:
    pairs = found.divided.duplicates.pairs.head(_SAMPLES)
    first, seen = found.divided.duplicates.first, found.divided.seen
    rows = []
    for a, b, bits in pairs.itertuples(index=False):
        both = seen.iloc[[first[a], first[b]]]
        caption = f'{" / ".join(both["split"])}, {bits} bits'
        rows.append((caption, list(_thumbnails(both, found.settings))))
    return Picture('One picture in two splits', data_set.gallery(rows, 2))


def _left_out(found: Found) -> list[Section]:
    rejected = found.rejected
    if rejected.empty:
        return []
    reasons = rejected['problem'].str.replace(r'\d+', 'N', regex=True).value_counts()
    tables = [
        Table('By reason', ['reason', 'images'], list(reasons.head(_MOST_ROWS).items())),
        Table(
            f'The first {min(len(rejected), _MOST_ROWS)}; all are in rejected.csv',
            ['listed in', 'image', 'problem'],
            rejected[['listed_in', 'image_path', 'problem']].head(_MOST_ROWS).to_numpy().tolist(),
        ),
    ]
    return [Section('Left out', f'{len(rejected):,} images are not in the record set.', tables)]


def _samples(found: Found) -> Section:
    shown = []
    for split, part in found.images.groupby('split', observed=True):
        cases = part.groupby('case', sort=False)
        names = np.array(list(cases.groups), object)
        chosen = names[np.linspace(0, len(names) - 1, min(_SAMPLES, len(names))).astype(int)]
        rows = []
        for name in chosen:
            case = cases.get_group(name)
            label = ', '.join(sorted(set(case['label']) - {''})) or 'no label'
            caption = f'{label}; {len(case)} image{"s" * (len(case) > 1)}'
            rows.append((caption, list(_thumbnails(case.head(_COLUMNS), found.settings))))
        shown.append(Picture(f'Cases of {split}', data_set.gallery(rows, _COLUMNS)))
    text = f'Cases evenly over the table, the first {_COLUMNS} images of each, as they are stored.'
    return Section('Samples', text, pictures=shown)


def _thumbnails(images: pd.DataFrame, settings: Settings) -> Iterator[np.ndarray]:
    for source, frame in zip(images['source'].tolist(), images['frame'].tolist()):
        stored = pictures.picture(scan.read_source(source), frame, settings.reading)
        yield data_set.thumbnail(pictures.levels(stored))
