"""ISIC 2019: dermatoscopic images of HAM10000, BCN20000 and MSK, and the challenge's test set."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
ISIC_2019_Training_GroundTruth.csv
ISIC_2019_Training_Metadata.csv
ISIC_2019_Training_Input/ISIC_0000000.jpg
ISIC_2019_Test_GroundTruth.csv (may be left out)
ISIC_2019_Test_Metadata.csv (may be left out)
ISIC_2019_Test_Input/ISIC_0034321.jpg (may be left out)"""
_CLASSES = ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC', 'UNK')
_FURTHER = {'age': 'age_approx', 'sex': 'sex', 'site': 'anatom_site_general'}
_OTHER_NAMES = {'gender': 'sex'}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    described = raw.needed_table('ISIC_2019_Training_Metadata.csv')
    known = rows.read(described, ['image', 'lesion_id'], _FURTHER, _OTHER_NAMES)
    parts = [_part(raw, raw.needed_table('ISIC_2019_Training_GroundTruth.csv'), known, 'train')]
    if test := raw.table('ISIC_2019_Test_GroundTruth.csv'):
        if described := raw.table('ISIC_2019_Test_Metadata.csv'):
            further = {'lesion_id': 'lesion_id', **_FURTHER}
            known = rows.read(described, ['image'], further, _OTHER_NAMES)
        parts.append(_part(raw, test, known if described else known[:0], 'test'))
    return rows.listing(raw, parts)


def _part(raw: RawFolder, path: str, known: pd.DataFrame, split: str) -> pd.DataFrame:
    table = rows.read(path, ['image', *_CLASSES], {'score_weight': 'score_weight'})
    columns = {
        name: rows.looked_up(table['image'], known, 'image', name)
        for name in ('lesion_id', *_FURTHER)
    }
    lesion = columns.pop('lesion_id')
    return pd.DataFrame(
        {
            'image_path': raw.images(table['image']),
            'case_id': lesion,
            'patient_id': '',
            'label': rows.one_hot(table, _CLASSES),
            LISTED_IN: table[LISTED_IN],
            'split': split,
            'dataset': lesion.str.extract('^([A-Za-z]+)', expand=False),
            'score_weight': table['score_weight'],
            **columns,
        }
    )


SOURCE = PublishedSet(
    name='isic2019',
    title='ISIC 2019 challenge (Tschandl et al. 2018, doi:10.1038/sdata.2018.161; Codella et al. '
    '2017, arXiv:1710.05006; Combalia et al. 2019, BCN20000, arXiv:1908.02288)',
    url='https://challenge.isic-archive.com/data/#2019',
    terms='CC BY-NC 4.0',
    layout=_LAYOUT,
    case='one lesion; images whose lesion is not published are cases of their own',
    read=_read,
)
