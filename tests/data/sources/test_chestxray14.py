import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

HEADER = (
    'Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,'
    'OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]'
)


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        'Data_Entry_2017_v2020.csv',
        HEADER,
        '00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143',
        '00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143',
        '00000002_000.png,Pleural_Thickening,0,2,80,F,PA,2682,2749,0.143,0.143',
        '00000003_000.png,Hernia,0,3,81,F,PA,2682,2749,0.143,0.143',
    )
    write(raw, 'train_val_list.txt', '00000001_000.png', '00000001_001.png')
    write(raw, 'test_list.txt', '00000002_000.png', '00000009_000.png')
    plant(
        raw,
        [
            'images_001/images/00000001_000.png',
            'images_001/images/00000001_001.png',
            'images_002/images/00000002_000.png',
            'images_012/images/00000003_000.png',
        ],
    )
    return raw


def test_patients_findings_and_lists(raw, tmp_path):
    found = listing('chestxray14', raw, tmp_path)
    assert rows(found, 'image_path', 'case_id', 'patient_id', 'label') == [
        ('images_001/images/00000001_000.png', '1', '1', 'Cardiomegaly|Emphysema'),
        ('images_001/images/00000001_001.png', '1', '1', 'No Finding'),
        ('images_002/images/00000002_000.png', '2', '2', 'Pleural_Thickening'),
        ('images_012/images/00000003_000.png', '3', '3', 'Hernia'),
    ]
    split = column(found, 'split')
    assert split[0] == split[1] and split[0] in ('train', 'val') and split[2:] == ['test', '']
    assert rows(found, 'age', 'sex', 'view', 'follow_up')[1] == ('58', 'M', 'AP', '1')
    assert len(found.announcements) == 1 and 'with seed 0' in found.announcements[0]


def test_an_eighth_of_the_training_patients_is_validation(tmp_path):
    names = [f'{patient:08}_{i:03}.png' for patient in range(400) for i in range(2)]
    write(tmp_path, 'Data_Entry_2017.csv', HEADER + ',', *(
        f'{name},No Finding,0,{int(name[:8])},57,M,PA,1,1,0.1,0.1,' for name in names
    ))  # fmt: skip
    write(tmp_path, 'train_val_list.txt', *names[:-2])
    write(tmp_path, 'test_list.txt', *names[-2:])
    plant(tmp_path, [f'images/{name}' for name in names])
    found = listing('chestxray14', tmp_path, tmp_path / 'kept')
    of_patient = found.table.groupby('patient_id')['split'].agg(['nunique', 'first'])
    assert (of_patient['nunique'] == 1).all()
    assert of_patient['first'].value_counts()['test'] == 1
    assert 30 < of_patient['first'].value_counts()['val'] < 70
    assert column(found, 'split') == column(listing('chestxray14', tmp_path, tmp_path), 'split')


def test_the_sample_of_5000(raw, tmp_path):
    for name in ('Data_Entry_2017_v2020.csv', 'train_val_list.txt', 'test_list.txt'):
        (raw / name).unlink()
    write(
        raw,
        'sample_labels.csv',
        HEADER.replace('[', '').replace(',Height]', ',OriginalImageHeight').replace(',y]', ',y'),
        '00000001_000.png,Mass|Nodule,0,1,057Y,M,PA,1,1,0.1,0.1',
    )
    found = listing('chestxray14', raw, tmp_path)
    assert column(found, 'label') == ['Mass|Nodule'] and 'split' not in found.table
    assert found.announcements == (
        f'{raw}: no train_val_list.txt and test_list.txt, so no official split',
    )


def test_an_image_that_is_not_there(raw, tmp_path):
    (raw / 'images_012/images/00000003_000.png').unlink()
    found = listing('chestxray14', raw, tmp_path)
    assert len(found.table) == 3 and found.announcements[0].startswith('1 of 4 images')


def test_complaints(raw, tmp_path):
    edit(raw / 'Data_Entry_2017_v2020.csv', '|Emphysema', '|Flu')
    assert (
        "Data_Entry_2017_v2020.csv row 2: Finding Labels 'Cardiomegaly|Flu' has 'Flu', which is "
        'none of the published labels'
    ) in complaint('chestxray14', raw)
    edit(raw / 'Data_Entry_2017_v2020.csv', 'Patient ID', 'PatientID')
    assert "no column 'Patient ID'; columns found: Image Index" in complaint('chestxray14', raw)
    bare = tmp_path / 'bare'
    bare.mkdir()
    assert 'no file Data_Entry_2017_v2020.csv or Data_Entry' in complaint('chestxray14', bare)
