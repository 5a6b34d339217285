import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

HEADER = (
    'patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,'
    'skin_cancer_history,cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,'
    'diameter_1,diameter_2,diagnostic,itch,grew,hurt,changed,bleed,elevation,img_id,biopsed'
)


def row(patient, lesion, number, diagnosis):
    return (
        f'{patient},{lesion},,,,,55,,FEMALE,,,,,3.0,NECK,,,{diagnosis},,,,,,,'
        f'{patient}_{lesion}_{number}.png,True'
    )


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        'metadata.csv',
        HEADER,
        row('PAT_1', 7, 100, 'BCC'),
        row('PAT_1', 7, 101, 'BCC'),
        row('PAT_2', 7, 102, 'NEV'),
        row('PAT_2', 8, 103, 'ACK'),
    )
    plant(
        raw,
        [
            'images/imgs_part_1/PAT_1_7_100.png',
            'images/imgs_part_2/imgs_part_2/PAT_1_7_101.png',
            'images/imgs_part_3/PAT_2_7_102.png',
            'images/imgs_part_3/PAT_2_8_103.png',
        ],
    )
    return raw


def test_a_lesion_number_of_two_patients_is_two_lesions(raw, tmp_path):
    found = listing('pad_ufes_20', raw, tmp_path)
    assert rows(found, 'image_path', 'case_id', 'patient_id', 'label') == [
        ('images/imgs_part_1/PAT_1_7_100.png', 'PAT_1/7', 'PAT_1', 'BCC'),
        ('images/imgs_part_2/imgs_part_2/PAT_1_7_101.png', 'PAT_1/7', 'PAT_1', 'BCC'),
        ('images/imgs_part_3/PAT_2_7_102.png', 'PAT_2/7', 'PAT_2', 'NEV'),
        ('images/imgs_part_3/PAT_2_8_103.png', 'PAT_2/8', 'PAT_2', 'ACK'),
    ]
    further = rows(found, 'age', 'sex', 'skin_type', 'site', 'biopsed')
    assert further == [('55', 'FEMALE', '3.0', 'NECK', 'True')] * 4
    assert 'split' not in found.table and found.announcements == ()


def test_a_part_that_was_not_downloaded(raw, tmp_path):
    (raw / 'images/imgs_part_1/PAT_1_7_100.png').unlink()
    found = listing('pad_ufes_20', raw, tmp_path)
    assert column(found, 'label') == ['BCC', 'NEV', 'ACK']
    assert found.announcements[0].startswith('1 of 4 images')


def test_complaints(raw, tmp_path):
    edit(raw / 'metadata.csv', 'NEV', 'nevus')
    message = complaint('pad_ufes_20', raw)
    assert "metadata.csv row 4: diagnostic 'nevus' is none of ACK, BCC, MEL, NEV" in message
    edit(raw / 'metadata.csv', 'img_id', 'image')
    assert "metadata.csv: no column 'img_id'" in complaint('pad_ufes_20', raw)
    (tmp_path / 'bare').mkdir()
    message = complaint('pad_ufes_20', tmp_path / 'bare')
    assert 'no file metadata.csv; expected there: metadata.csv; images/imgs_part_1/' in message
