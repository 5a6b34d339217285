"""ChestX-ray14 of the NIH: frontal chest films, many patients with follow-ups."""

import pandas as pd
from etils import epath

from big_ssl.data.manifest import SEPARATOR
from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
Data_Entry_2017_v2020.csv (or Data_Entry_2017.csv)
train_val_list.txt
test_list.txt
images_001/images/00000001_000.png
...
images_012/images/00030805_000.png"""
_NO_FINDING = 'No Finding'
_FINDINGS = (
    'Atelectasis',
    'Cardiomegaly',
    'Consolidation',
    'Edema',
    'Effusion',
    'Emphysema',
    'Fibrosis',
    'Hernia',
    'Infiltration',
    'Mass',
    'Nodule',
    'Pleural_Thickening',
    'Pneumonia',
    'Pneumothorax',
)
_TABLES = ('Data_Entry_2017_v2020.csv', 'Data_Entry_2017.csv', 'sample_labels.csv')
_FURTHER = {
    'age': 'Patient Age',
    'sex': 'Patient Gender',
    'view': 'View Position',
    'follow_up': 'Follow-up #',
}
_LISTS = {'train_val_list.txt': 'train', 'test_list.txt': 'test'}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    path = raw.needed_table(*_TABLES)
    table = rows.read(path, ['Image Index', 'Finding Labels', 'Patient ID'], _FURTHER)
    images = pd.DataFrame(
        {
            'image_path': raw.images(table['Image Index']),
            'case_id': table['Patient ID'],
            'patient_id': table['Patient ID'],
            'label': rows.converted(table, 'Finding Labels', _known),
            LISTED_IN: table[LISTED_IN],
        }
    ).join(table[[*_FURTHER]])
    lists = {split: raw.table(name) for name, split in _LISTS.items()}
    if all(lists.values()):
        images['split'] = _official(table['Image Index'], lists)
    else:
        raw.announcements.append(f'{raw.path}: no {" and ".join(_LISTS)}, so no official split')
    return rows.listing(raw, [images])


def _official(images: pd.Series, lists: dict[str, str]) -> pd.Series:
    named = {
        image: split
        for split, path in lists.items()
        for image in epath.Path(path).read_text().split()
    }
    return images.map(named).astype(object).fillna('')


def _known(text: str) -> str:
    names = text.split(SEPARATOR) if text else []
    if unknown := [name for name in names if name not in (_NO_FINDING, *_FINDINGS)]:
        raise ValueError(f'has {unknown[0]!r}, which is none of the published labels')
    return text


SOURCE = PublishedSet(
    name='chestxray14',
    title='ChestX-ray14 (Wang et al. 2017, CVPR, pp. 3462-3471, doi:10.1109/CVPR.2017.369)',
    url='https://nihcc.app.box.com/v/ChestXray-NIHCC',
    terms='no restriction; the NIH Clinical Center asks for a link to its download, the citation '
    'and an acknowledgement',
    layout=_LAYOUT,
    case='one patient, films of all follow-ups: no study is published',
    read=_read,
    multilabel=True,
    negative=_NO_FINDING,
)
