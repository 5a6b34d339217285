"""HAM10000: dermatoscopic images, several of many lesions, and the test set of ISIC 2018 task 3."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
HAM10000_metadata.csv (or HAM10000_metadata, or .tab)
HAM10000_images_part_1/ISIC_0024306.jpg
HAM10000_images_part_2/ISIC_0029306.jpg
ISIC2018_Task3_Test_GroundTruth.csv (or .tab; may be left out)
ISIC2018_Task3_Test_Images/ISIC_0034524.jpg (may be left out)"""
_CLASSES = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
_FURTHER = {
    'age': 'age',
    'sex': 'sex',
    'site': 'localization',
    'confirmed_by': 'dx_type',
    'dataset': 'dataset',
}
_ONE_HOT = {name.upper(): name for name in _CLASSES}  # as the challenge writes them


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    train = raw.needed_table('HAM10000_metadata.csv', 'HAM10000_metadata', 'HAM10000_metadata.tab')
    stem = 'ISIC2018_Task3_Test_GroundTruth'
    test = raw.table(f'{stem}.csv', f'{stem}.tab')
    parts = [_part(raw, rows.read(train, ['lesion_id', 'image_id', 'dx'], _FURTHER), 'train')]
    if test:
        parts.append(_part(raw, _test_table(test), 'test'))
    return rows.listing(raw, parts)


def _test_table(path: str) -> pd.DataFrame:
    """The table in the columns of the training part: published are those, or one a class."""
    names = {'image': 'image_id', **_ONE_HOT}
    table = rows.read(path, ['image_id'], {'lesion_id': 'lesion_id', 'dx': 'dx', **_FURTHER}, names)
    if (table['dx'] == '').all():
        table['dx'] = rows.one_hot(rows.read(path, _CLASSES, names=names), _CLASSES)
    return table


def _part(raw: RawFolder, table: pd.DataFrame, split: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            'image_path': raw.images(table['image_id']),
            'case_id': table['lesion_id'],
            'patient_id': '',
            'label': rows.converted(table, 'dx', rows.one_of(*_CLASSES)),
            LISTED_IN: table[LISTED_IN],
            'split': split,
        }
    ).join(table[[*_FURTHER]])


SOURCE = PublishedSet(
    name='ham10000',
    title='HAM10000 (Tschandl, Rosendahl and Kittler 2018, Sci. Data 5, 180161, '
    'doi:10.1038/sdata.2018.161)',
    url='https://doi.org/10.7910/DVN/DBW86T',
    terms='CC BY-NC 4.0',
    layout=_LAYOUT,
    case='one lesion; no patient is published',
    read=_read,
)
