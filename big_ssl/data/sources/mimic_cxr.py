"""MIMIC-CXR-JPG: chest films of studies, with the findings that the CheXpert labeller read."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.chexpert import FINDINGS, NO_FINDING
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder

_LAYOUT = """\
mimic-cxr-2.0.0-metadata.csv.gz
mimic-cxr-2.0.0-split.csv.gz
mimic-cxr-2.0.0-chexpert.csv.gz
files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg"""
_SPLITS = {'train': 'train', 'validate': 'val', 'test': 'test'}
_FURTHER = {'view': 'ViewPosition', 'position': 'PatientOrientationCodeSequence_CodeMeaning'}


def _read(path: str) -> Listing:
    """Patients are looked for on disk, not each of their images: that is ten listings."""
    raw = RawFolder(path, _LAYOUT, leaf=r'p\d{8}')
    table = _table(raw, 'metadata', ['dicom_id', 'subject_id', 'study_id'], _FURTHER)
    split = _table(raw, 'split', ['dicom_id', 'split'])
    split['split'] = rows.converted(split, 'split', rows.one_of(*_SPLITS)).replace(_SPLITS)
    studies = _table(raw, 'chexpert', ['study_id', NO_FINDING, *FINDINGS])
    studies['label'] = rows.findings(studies, [NO_FINDING, *FINDINGS])
    folder = pd.Series(raw.folders('p' + table['subject_id']), index=table.index)
    image = folder + '/s' + table['study_id'] + '/' + table['dicom_id'] + '.jpg'
    images = pd.DataFrame(
        {
            'image_path': image.where(folder != '', ''),
            'case_id': table['study_id'],
            'patient_id': table['subject_id'],
            'label': rows.looked_up(table['study_id'], studies, 'study_id', 'label'),
            LISTED_IN: table[LISTED_IN],
            'split': rows.looked_up(table['dicom_id'], split, 'dicom_id', 'split'),
        }
    ).join(table[[*_FURTHER]])
    return rows.listing(raw, [images])


def _table(
    raw: RawFolder, name: str, needed: list[str], further: dict[str, str] | None = None
) -> pd.DataFrame:
    return rows.read(raw.needed_table(f'mimic-cxr-2.0.0-{name}.csv'), needed, further)


SOURCE = PublishedSet(
    name='mimic_cxr',
    title='MIMIC-CXR-JPG (Johnson et al. 2019, arXiv:1901.07042; version 2.1.0, '
    'doi:10.13026/jsn5-t979)',
    url='https://physionet.org/content/mimic-cxr-jpg/',
    terms='PhysioNet Credentialed Health Data License: training, a data use agreement, not to be '
    'passed on',
    layout=_LAYOUT,
    case='one study; the labels are of the study',
    read=_read,
    multilabel=True,
    negative=NO_FINDING,
)
