import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

TRUTH = 'image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK'
KNOWN = 'image,age_approx,anatom_site_general,lesion_id,sex'


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        'ISIC_2019_Training_GroundTruth.csv',
        TRUTH,
        'ISIC_0000001_downsampled,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0',
        'ISIC_0000002,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0',
        'ISIC_0000003,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0',
    )
    write(
        raw,
        'ISIC_2019_Training_Metadata.csv',
        KNOWN,
        'ISIC_0000003,55.0,torso,BCN_0000007,female',
        'ISIC_0000001_downsampled,30.0,,,male',
        'ISIC_0000002,55.0,head/neck,MSK4_0000009,female',
    )
    names = ('ISIC_0000001_downsampled', 'ISIC_0000002', 'ISIC_0000003')
    plant(raw, [f'ISIC_2019_Training_Input/{name}.jpg' for name in names])
    return raw


def test_labels_and_lesions_come_from_two_tables(raw, tmp_path):
    found = listing('isic2019', raw, tmp_path)
    assert rows(found, 'image_path', 'case_id', 'label', 'site', 'dataset') == [
        ('ISIC_2019_Training_Input/ISIC_0000001_downsampled.jpg', '', 'NV', '', ''),
        ('ISIC_2019_Training_Input/ISIC_0000002.jpg', 'MSK4_0000009', 'MEL', 'head/neck', 'MSK'),
        ('ISIC_2019_Training_Input/ISIC_0000003.jpg', 'BCN_0000007', 'SCC', 'torso', 'BCN'),
    ]
    assert column(found, 'age') == ['30.0', '55.0', '55.0'] and column(found, 'sex')[0] == 'male'
    assert 'split' not in found.table and 'score_weight' not in found.table


def test_sex_under_its_other_name(raw, tmp_path):
    edit(raw / 'ISIC_2019_Training_Metadata.csv', 'sex', 'gender')
    assert column(listing('isic2019', raw, tmp_path), 'sex') == ['male', 'female', 'female']


@pytest.mark.parametrize('described', [True, False])
def test_the_test_set(raw, tmp_path, described):
    write(
        raw,
        'ISIC_2019_Test_GroundTruth.csv',
        f'{TRUTH},score_weight,validation_weight',
        'ISIC_0100000,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0',
        'ISIC_0100001,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0',
    )
    if described:
        write(
            raw,
            'ISIC_2019_Test_Metadata.csv',
            'image,age_approx,anatom_site_general,sex',
            'ISIC_0100000,20.0,,female',
        )
    plant(raw, [f'ISIC_2019_Test_Input/ISIC_010000{i}.jpg' for i in range(2)])
    found = listing('isic2019', raw, tmp_path)
    assert column(found, 'label')[3:] == ['UNK', '']
    assert column(found, 'split')[3:] == ['test', 'test']
    assert column(found, 'case_id')[3:] == ['', '']
    assert column(found, 'score_weight') == ['', '', '', '1.0', '0.0']
    assert column(found, 'sex')[3:] == (['female', ''] if described else ['', ''])


def test_a_value_that_is_no_flag(raw):
    edit(raw / 'ISIC_2019_Training_GroundTruth.csv', 'ISIC_0000002,1.0', 'ISIC_0000002,2.0')
    message = complaint('isic2019', raw)
    assert "ISIC_2019_Training_GroundTruth.csv row 3: MEL '2.0' is neither" in message


def test_a_column_and_a_table_that_are_missing(raw):
    edit(raw / 'ISIC_2019_Training_Metadata.csv', 'lesion_id', 'lesion')
    assert "Metadata.csv: no column 'lesion_id'; columns found: image" in complaint('isic2019', raw)
    (raw / 'ISIC_2019_Training_GroundTruth.csv').unlink()
    edit(raw / 'ISIC_2019_Training_Metadata.csv', 'lesion', 'lesion_id')
    message = complaint('isic2019', raw)
    assert 'no file ISIC_2019_Training_GroundTruth.csv; expected there: ISIC_2019_Tr' in message
