"""CheXpert: chest films with findings read from reports, 14 of them, some uncertain."""

import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder
from big_ssl.errors import InputError

_LAYOUT = """\
train.csv
valid.csv (may be left out)
test_labels.csv (may be left out)
train/patient00001/study1/view1_frontal.jpg
valid/patient64541/study1/view1_frontal.jpg
test/patient64741/study1/view1_frontal.jpg"""
NO_FINDING = 'No Finding'
FINDINGS = (
    'Enlarged Cardiomediastinum',
    'Cardiomegaly',
    'Lung Opacity',
    'Lung Lesion',
    'Edema',
    'Consolidation',
    'Pneumonia',
    'Atelectasis',
    'Pneumothorax',
    'Pleural Effusion',
    'Pleural Other',
    'Fracture',
    'Support Devices',
)
_FURTHER = {'age': 'Age', 'sex': 'Sex', 'view': 'Frontal/Lateral', 'projection': 'AP/PA'}
_PATH = r'(?:^|/)(?P<patient>patient\d+)/(?P<study>study\d+)/(?P<image>[^/]+)$'


def _read(path: str) -> Listing:
    """Patients are looked for on disk, not each of their images: that is one listing a split."""
    raw = RawFolder(path, _LAYOUT, leaf=r'patient\d+')
    parts = [_part(raw, raw.needed_table('train.csv'), 'train')]
    if valid := raw.table('valid.csv'):
        parts.append(_part(raw, valid, 'val'))
    if test := raw.table('test_labels.csv', 'test.csv'):
        parts.append(_part(raw, test, 'test'))
    return rows.listing(raw, parts)


def _part(raw: RawFolder, path: str, split: str) -> pd.DataFrame:
    further = {NO_FINDING: NO_FINDING, **_FURTHER}
    table = rows.read(path, ['Path', *FINDINGS], further)
    found = table['Path'].str.extract(_PATH)
    if (unknown := found['patient'].isna()).any():
        row = table[unknown].iloc[0]
        raise InputError(
            f'{row[LISTED_IN]}: Path {row["Path"]!r} does not end in patientN/studyN/IMAGE'
        )
    case = found['patient'] + '/' + found['study']
    folder = pd.Series(raw.folders(found['patient']), index=table.index)
    image = folder + '/' + found['study'] + '/' + found['image']
    return pd.DataFrame(
        {
            'image_path': image.where(folder != '', ''),
            'case_id': case,
            'patient_id': found['patient'],
            'label': rows.findings(table, [NO_FINDING, *FINDINGS]),
            LISTED_IN: table[LISTED_IN],
            'split': split,
        }
    ).join(table[[*_FURTHER]])


SOURCE = PublishedSet(
    name='chexpert',
    title='CheXpert (Irvin et al. 2019, AAAI, arXiv:1901.07031)',
    url='https://stanfordmlgroup.github.io/competitions/chexpert/',
    terms='Stanford University Dataset Research Use Agreement: non-commercial research, not to be '
    'passed on',
    layout=_LAYOUT,
    case='one study, as PATIENT/STUDY: its frontal and lateral films',
    read=_read,
    multilabel=True,
    negative=NO_FINDING,
)
