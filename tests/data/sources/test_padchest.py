import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, write

NAME = 'PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv'
HEADER = (
    ',ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,'
    'ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,'
    'Report,MethodLabel,Labels,Localizations'
)


def row(number, folder, study, patient, labels):
    return (
        f'{number},{study}_{number}.png,{folder},20140915,{study},{patient},1930.0,F,LATERAL,L,'
        f'Manual review,No,CR,ImagingDynamics,texto,Physician,"{labels}",'
    )


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        NAME,
        HEADER,
        row(0, 0, 'S1', 'P1', "['normal']"),
        row(1, 0, 'S1', 'P1', "['pneumonia', ' pleural effusion ', '', 'pneumonia']"),
        row(2, 54, 'S2', 'P2', ''),
        row(3, 54, 'S3', 'P2', 'nan'),
        row(4, 54, 'S3', 'P2', "['cardiomegaly'"),
        row(5, 54, 'S3', 'P2', '[]'),
        row(6, 54, 'S3', 'P2', '[1]'),
    )
    plant(raw, ['0/S1_0.png', '0/S1_1.png', '54/S2_2.png'])
    plant(raw, [f'54/S3_{i}.png' for i in (3, 4, 5, 6)])
    return raw


def test_lists_of_labels(raw, tmp_path):
    found = listing('padchest', raw, tmp_path)
    assert column(found, 'image_path')[:3] == ['0/S1_0.png', '0/S1_1.png', '54/S2_2.png']
    assert column(found, 'case_id') == ['S1', 'S1', 'S2'] + ['S3'] * 4
    assert column(found, 'patient_id') == ['P1', 'P1'] + ['P2'] * 5
    assert column(found, 'label') == ['normal', 'pneumonia|pleural effusion'] + [''] * 5
    assert column(found, 'view')[0] == 'L' and column(found, 'device')[0] == 'ImagingDynamics'
    assert column(found, 'labelled_by')[0] == 'Physician'
    assert found.announcements == (
        f'2 rows have Labels that are no list, taken as not known; the first is {raw}/{NAME} row 6',
    )
    assert 'split' not in found.table


def test_no_birth_no_date_no_report(raw, tmp_path):
    values = set(listing('padchest', raw, tmp_path).table.to_numpy().ravel())
    assert not values & {'1930.0', '20140915', 'texto'}


def test_all_images_in_one_folder_and_some_not_there(raw, tmp_path):
    (raw / '0').rename(raw / 'images-224')
    (raw / '54/S3_6.png').unlink()
    found = listing('padchest', raw, tmp_path)
    assert column(found, 'image_path')[0] == 'images-224/S1_0.png'
    assert found.announcements[1].startswith('1 of 7 images named in')


def test_complaints(raw, tmp_path):
    edit(raw / NAME, 'Labels', 'Label')
    assert f"{NAME}: no column 'Labels'; columns found: ImageID" in complaint('padchest', raw)
    bare = tmp_path / 'bare'
    write(bare, NAME, HEADER, row(0, 0, 'S1', 'P1', "['normal']"))
    message = complaint('padchest', bare)
    assert f'none of the images named in {bare}/{NAME}; expected there: PADCHEST' in message
