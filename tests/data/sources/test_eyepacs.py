import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(raw, 'trainLabels.csv', 'image,level', '10_left,0', '10_right,3', '13_left,4')
    plant(raw, [f'train/{name}.jpeg' for name in ('10_left', '10_right', '13_left')])
    return raw


def test_both_eyes_of_a_patient_are_a_case(raw, tmp_path):
    found = listing('eyepacs', raw, tmp_path)
    assert rows(found, 'image_path', 'case_id', 'patient_id', 'label', 'eye') == [
        ('train/10_left.jpeg', '10', '10', '0', 'left'),
        ('train/10_right.jpeg', '10', '10', '3', 'right'),
        ('train/13_left.jpeg', '13', '13', '4', 'left'),
    ]
    assert 'split' not in found.table and 'Usage' not in found.table


def test_the_test_set(raw, tmp_path):
    write(
        raw, 'retinopathy_solution.csv', 'image,level,Usage', '1_left,0,Private', '2_right,1,Public'
    )
    plant(raw, ['test/1_left.jpeg', 'test/2_right.jpeg'])
    found = listing('eyepacs', raw, tmp_path)
    assert column(found, 'split')[3:] == ['test', 'test']
    assert set(column(found, 'split')[:3]) <= {'train', 'val'}
    assert column(found, 'Usage') == ['', '', '', 'Private', 'Public']


def test_a_test_set_of_which_no_image_is_there(raw, tmp_path):
    write(raw, 'retinopathy_solution.csv', 'image,level,Usage', '1_left,0,Private')
    found = listing('eyepacs', raw, tmp_path)
    assert len(found.table) == 3 and 'split' not in found.table
    assert found.announcements[0].startswith('1 of 1 images named in')


def test_complaints(raw):
    edit(raw / 'trainLabels.csv', '13_left,4', '13_left,5')
    message = complaint('eyepacs', raw)
    assert "trainLabels.csv row 4: level '5' is none of 0, 1, 2, 3, 4" in message
    edit(raw / 'trainLabels.csv', '10_right', '10_middle')
    assert "trainLabels.csv row 3: image '10_middle' is not" in complaint('eyepacs', raw)
    edit(raw / 'trainLabels.csv', 'level', 'grade')
    assert "no column 'level'; columns found: image, grade" in complaint('eyepacs', raw)
    (raw / 'trainLabels.csv').unlink()
    assert 'no file trainLabels.csv; expected there:' in complaint('eyepacs', raw)
