"""EyePACS, as of the Kaggle competition of 2015: photographs of both retinas of each patient."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder
from big_ssl.errors import InputError

_LAYOUT = """\
trainLabels.csv
train/10_left.jpeg
retinopathy_solution.csv (may be left out)
test/1_left.jpeg (may be left out)"""
_LEVELS = ('0', '1', '2', '3', '4')


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    parts = [_part(raw, raw.needed_table('trainLabels.csv'), 'train')]
    if test := raw.table('retinopathy_solution.csv'):
        parts.append(_part(raw, test, 'test'))
    return rows.listing(raw, parts)


def _part(raw: RawFolder, path: str, split: str) -> pd.DataFrame:
    table = rows.read(path, ['image', 'level'], {'Usage': 'Usage'})
    eyes = table['image'].str.extract(r'^(?P<patient>\d+)_(?P<eye>left|right)$')
    if (unknown := eyes['eye'].isna()).any():
        row = table[unknown].iloc[0]
        raise InputError(f'{row[LISTED_IN]}: image {row["image"]!r} is not NUMBER_left or _right')
    return pd.DataFrame(
        {
            'image_path': raw.images(table['image']),
            'case_id': eyes['patient'],
            'patient_id': eyes['patient'],
            'label': rows.converted(table, 'level', rows.one_of(*_LEVELS)),
            LISTED_IN: table[LISTED_IN],
            'split': split,
            'eye': eyes['eye'],
            'Usage': table['Usage'],
        }
    )


SOURCE = PublishedSet(
    name='eyepacs',
    title='EyePACS, Kaggle Diabetic Retinopathy Detection 2015 (Cuadros and Bresnick 2009, '
    'J. Diabetes Sci. Technol. 3, 509-516)',
    url='https://www.kaggle.com/c/diabetic-retinopathy-detection',
    terms='rules of the Kaggle competition, to be accepted there before the download',
    layout=_LAYOUT,
    case='one patient, both eyes: each eye has a level of its own, so judge images one by one',
    read=_read,
)
