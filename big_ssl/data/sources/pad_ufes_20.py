"""PAD-UFES-20: photographs of skin lesions taken with smartphones, with patient and lesion."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
metadata.csv
images/imgs_part_1/PAT_1516_1765_530.png
images/imgs_part_2/PAT_46_881_939.png
images/imgs_part_3/PAT_1545_1867_547.png"""
_CLASSES = ('ACK', 'BCC', 'MEL', 'NEV', 'SCC', 'SEK')
_FURTHER = {
    'age': 'age',
    'sex': 'gender',
    'skin_type': 'fitspatrick',
    'site': 'region',
    'biopsed': 'biopsed',
}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    needed = ['patient_id', 'lesion_id', 'img_id', 'diagnostic']
    table = rows.read(raw.needed_table('metadata.csv'), needed, _FURTHER)
    # some lesion numbers are published for two patients
    lesion = (table['patient_id'] + '/' + table['lesion_id']).where(table['lesion_id'] != '', '')
    images = pd.DataFrame(
        {
            'image_path': raw.images(table['img_id']),
            'case_id': lesion,
            'patient_id': table['patient_id'],
            'label': rows.converted(table, 'diagnostic', rows.one_of(*_CLASSES)),
            LISTED_IN: table[LISTED_IN],
        }
    ).join(table[[*_FURTHER]])
    return rows.listing(raw, [images])


SOURCE = PublishedSet(
    name='pad_ufes_20',
    title='PAD-UFES-20 (Pacheco et al. 2020, Data in Brief 32, 106221, '
    'doi:10.1016/j.dib.2020.106221)',
    url='https://doi.org/10.17632/zr7vgbcyr2.1',
    terms='CC BY 4.0',
    layout=_LAYOUT,
    case='one lesion, as PATIENT/LESION',
    read=_read,
)
