import gzip

import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, write

META = (
    'dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,'
    'StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,'
    'PatientOrientationCodeSequence_CodeMeaning'
)
SPLIT = 'dicom_id,study_id,subject_id,split'
LABELS = (
    'subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,'
    'Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,'
    'Pneumothorax,Support Devices'
)
# patient, study, image, split
ROWS = [
    ('10000001', '50000001', 'aa-1', 'train'),
    ('10000001', '50000001', 'aa-2', 'train'),
    ('10000003', '50000002', 'aa-3', 'validate'),
    ('19000002', '50000003', 'aa-4', 'test'),
]
IMAGES = [
    'files/p10/p10000001/s50000001/aa-1.jpg',
    'files/p10/p10000001/s50000001/aa-2.jpg',
    'files/p10/p10000003/s50000002/aa-3.jpg',
    'files/p19/p19000002/s50000003/aa-4.jpg',
]


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    further = 'CHEST,PA,1,1,21800506,1.5,CHEST,postero-anterior,Erect'
    write(
        raw,
        'mimic-cxr-2.0.0-metadata.csv',
        META,
        *(f'{image},{patient},{study},{further}' for patient, study, image, _ in ROWS),
    )
    write(
        raw,
        'mimic-cxr-2.0.0-split.csv',
        SPLIT,
        *(f'{image},{study},{patient},{split}' for patient, study, image, split in ROWS),
    )
    write(
        raw,
        'mimic-cxr-2.0.0-chexpert.csv',
        LABELS,
        '10000001,50000001,1.0,,,-1.0,,,,,,0.0,,,,',
        '10000003,50000002,,,,,,,,,1.0,,,,,',
    )
    plant(raw, IMAGES)
    return raw


def test_labels_of_a_study_are_of_each_of_its_images(raw, tmp_path):
    found = listing('mimic_cxr', raw, tmp_path)
    assert column(found, 'image_path') == IMAGES
    assert column(found, 'case_id') == ['50000001', '50000001', '50000002', '50000003']
    assert column(found, 'patient_id') == ['10000001', '10000001', '10000003', '19000002']
    assert column(found, 'label') == ['Edema?|Atelectasis'] * 2 + ['No Finding', '']
    assert column(found, 'split') == ['train', 'train', 'val', 'test']
    assert column(found, 'view') == ['PA'] * 4 and column(found, 'position') == ['Erect'] * 4
    assert not any('21800506' in value for value in found.table.to_numpy().ravel())
    assert found.announcements == ()


def test_gzipped_tables(raw, tmp_path):
    for name in ('metadata', 'split', 'chexpert'):
        plain = raw / f'mimic-cxr-2.0.0-{name}.csv'
        (raw / f'{plain.name}.gz').write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    found = listing('mimic_cxr', raw, tmp_path)
    assert len(found.table) == 4
    assert found.table['listed_in'][0] == f'{raw}/mimic-cxr-2.0.0-metadata.csv.gz row 2'


def test_a_folder_of_patients_that_was_not_downloaded(raw, tmp_path):
    (raw / 'files/p19').rename(tmp_path / 'p19')
    found = listing('mimic_cxr', raw, tmp_path / 'kept')
    assert column(found, 'split') == ['train', 'train', 'val']
    assert found.announcements[0].startswith('1 of 4 images named in')


def test_complaints(raw, tmp_path):
    edit(raw / 'mimic-cxr-2.0.0-chexpert.csv', '-1.0', '-2.0')
    message = complaint('mimic_cxr', raw)
    assert "chexpert.csv row 2: Edema '-2.0' is none of" in message
    edit(raw / 'mimic-cxr-2.0.0-split.csv', 'validate', 'valid')
    message = complaint('mimic_cxr', raw)
    assert "split.csv row 4: split 'valid' is none of train, validate, test" in message
    edit(raw / 'mimic-cxr-2.0.0-metadata.csv', 'study_id', 'study')
    assert "metadata.csv: no column 'study_id'" in complaint('mimic_cxr', raw)
    (raw / 'mimic-cxr-2.0.0-metadata.csv').unlink()
    message = complaint('mimic_cxr', raw)
    assert 'no file mimic-cxr-2.0.0-metadata.csv; expected there: mimic-cxr-2.0.0-' in message
