"""PadChest: chest films of studies with labels of a hierarchy, read from Spanish reports."""

import ast

import pandas as pd

from big_ssl.data.manifest import SEPARATOR
from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .csv.gz)
0/20536686640136348236148679891455886468_k6ga29.png
...
54/216840111366964012989926673512011151082430686_00-157-045.png"""
_TABLE = 'PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv'
_FURTHER = {
    'sex': 'PatientSex_DICOM',
    'view': 'Projection',
    'pediatric': 'Pediatric',
    'device': 'Manufacturer_DICOM',
    'labelled_by': 'MethodLabel',
}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    needed = ['ImageID', 'StudyID', 'PatientID', 'Labels']
    table = rows.read(raw.needed_table(_TABLE), needed, _FURTHER)
    label = rows.converted(table, 'Labels', _label).astype(object)
    if (unreadable := label.isna()).any():
        raw.announcements.append(
            f'{unreadable.sum()} rows have Labels that are no list, taken as not known; the first '
            f'is {table[LISTED_IN][unreadable].iloc[0]}'
        )
    images = pd.DataFrame(
        {
            'image_path': raw.images(table['ImageID']),
            'case_id': table['StudyID'],
            'patient_id': table['PatientID'],
            'label': label.fillna(''),
            LISTED_IN: table[LISTED_IN],
        }
    ).join(table[[*_FURTHER]])
    return rows.listing(raw, [images])


def _label(text: str) -> str | None:
    """Names joined by '|', '' where there are none, None where the text is no list of names."""
    if text in ('', 'nan'):
        return ''
    try:
        names = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return SEPARATOR.join(dict.fromkeys(filter(None, map(str.strip, names))))


SOURCE = PublishedSet(
    name='padchest',
    title='PadChest (Bustos et al. 2020, Med. Image Anal. 66, 101797, '
    'doi:10.1016/j.media.2020.101797)',
    url='https://bimcv.cipf.es/bimcv-projects/padchest/',
    terms='PADCHEST Dataset Research Use Agreement: research, after registration',
    layout=_LAYOUT,
    case='one study: its frontal and lateral films',
    read=_read,
    multilabel=True,
    negative='normal',
)
