import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

CASES = (
    'case_id,source,release,year,age_group,sex_at_birth,fitzpatrick_skin_type,related_category,'
    'image_1_path,image_2_path,image_3_path,image_1_shot_type,image_2_shot_type,image_3_shot_type,'
    'combined_race'
)
LABELS = (
    'case_id,dermatologist_skin_condition_on_label_name,dermatologist_skin_condition_confidence,'
    'weighted_skin_condition_label,monk_skin_tone_label_india,monk_skin_tone_label_us'
)


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    images = 'dataset/images/'
    write(
        raw,
        'dataset/scin_cases.csv',
        CASES,
        f'-11,SCIN,1.0.0,2023,AGE_30_TO_39,FEMALE,FST3,RASH,{images}-5.png,{images}6.png,'
        f'{images}7.png,CLOSE_UP,AT_AN_ANGLE,AT_DISTANCE,WHITE',
        f'12,SCIN,1.0.0,2023,AGE_UNKNOWN,MALE,NONE_SELECTED,ACNE,{images}8.png,,,AT_DISTANCE,,,',
        f'13,SCIN,1.0.0,2023,,MALE,,ACNE,{images}9.png,,,AT_DISTANCE,,,',
    )
    write(
        raw,
        'dataset/scin_labels.csv',
        LABELS,
        "-11,\"['Acne', 'Eczema']\",\"[3, 2]\",\"{'Acne': 0.33, 'Eczema': 0.67}\",3.0,4.0",
        "12,\"['Tinea', 'Acne']\",\"[3, 3]\",\"{'Tinea': 0.5, 'Acne': 0.5}\",,",
        '13,[],[],{},,',
    )
    plant(raw, [f'dataset/images/{name}.png' for name in (-5, 6, 7, 8, 9)])
    return raw


def test_up_to_three_images_a_case_under_its_heaviest_condition(raw, tmp_path):
    found = listing('scin', raw, tmp_path)
    assert column(found, 'image_path') == [f'dataset/images/{i}.png' for i in (-5, 6, 7, 8, 9)]
    assert column(found, 'case_id') == ['-11', '-11', '-11', '12', '13']
    assert column(found, 'patient_id') == [''] * 5
    assert column(found, 'label') == ['Eczema', 'Eczema', 'Eczema', 'Tinea', '']
    assert column(found, 'shot')[:4] == ['CLOSE_UP', 'AT_AN_ANGLE', 'AT_DISTANCE', 'AT_DISTANCE']
    assert column(found, 'skin_type') == ['FST3', 'FST3', 'FST3', 'NONE_SELECTED', '']
    assert column(found, 'skin_tone_us') == ['4.0', '4.0', '4.0', '', '']
    assert column(found, 'age')[0] == 'AGE_30_TO_39' and column(found, 'sex')[3] == 'MALE'
    assert found.table['listed_in'][4] == f'{raw}/dataset/scin_cases.csv row 4'
    assert 'split' not in found.table and found.announcements == ()


def test_the_folder_of_the_tables_itself(raw, tmp_path):
    found = listing('scin', raw / 'dataset', tmp_path)
    assert column(found, 'image_path')[0] == 'images/-5.png'


def test_a_case_without_a_row_of_labels_is_not_known(raw, tmp_path):
    edit(raw / 'dataset/scin_labels.csv', '\n12,', '\n99,')
    assert rows(listing('scin', raw, tmp_path), 'case_id', 'label')[3] == ('12', '')


def test_an_image_in_two_cases_stays_in_the_first(raw, tmp_path):
    edit(raw / 'dataset/scin_cases.csv', 'images/9.png', 'images/6.png')
    found = listing('scin', raw, tmp_path)
    assert column(found, 'case_id') == ['-11', '-11', '-11', '12']
    assert len(found.announcements) == 1 and '1 images are named more than once' in found[1][0]


def test_images_that_are_not_there_are_counted(raw, tmp_path):
    (raw / 'dataset/images/6.png').unlink()
    found = listing('scin', raw, tmp_path)
    assert column(found, 'case_id') == ['-11', '-11', '12', '13']
    assert found.announcements == (
        f'1 of 5 images named in {raw}/dataset/scin_cases.csv are not in {raw}: left out',
    )


@pytest.mark.parametrize('text', ["['Tinea']", 'Tinea', "{'Tinea': 'much'}"])
def test_weights_that_are_none(raw, text):
    edit(raw / 'dataset/scin_labels.csv', "{'Tinea': 0.5, 'Acne': 0.5}", text)
    message = complaint('scin', raw)
    assert 'scin_labels.csv row 3: weighted_skin_condition_label' in message
    assert 'is no condition with weights' in message


def test_what_is_missing_is_named(raw):
    edit(raw / 'dataset/scin_labels.csv', 'weighted_skin_condition_label', 'weights')
    message = complaint('scin', raw)
    assert "scin_labels.csv: no column 'weighted_skin_condition_label'; columns found: case_id" in (
        message
    )
    (raw / 'dataset/scin_labels.csv').unlink()
    message = complaint('scin', raw)
    assert 'no file scin_labels.csv; expected there: dataset/scin_cases.csv; dataset/' in message
