import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

HEADER = 'lesion_id,image_id,dx,dx_type,age,sex,localization,dataset'
ONE_HOT = 'image,MEL,NV,BCC,AKIEC,BKL,DF,VASC'


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        'HAM10000_metadata',
        HEADER,
        'HAM_1,ISIC_0000001,bkl,histo,80.0,male,scalp,vidir_modern',
        'HAM_1,ISIC_0000002,bkl,histo,80.0,male,scalp,vidir_modern',
        'HAM_2,ISIC_0000003,mel,consensus,,unknown,back,rosendahl',
    )
    plant(
        raw,
        [
            'HAM10000_images_part_1/ISIC_0000001.jpg',
            'HAM10000_images_part_1/ISIC_0000002.jpg',
            'HAM10000_images_part_2/ISIC_0000003.jpg',
            '__MACOSX/HAM10000_images_part_2/._ISIC_0000003.jpg',
            'HAM10000_segmentations_lesion_tschandl/ISIC_0000003_segmentation.png',
        ],
    )
    return raw


def with_test_set(raw, header, *lines, name='ISIC2018_Task3_Test_GroundTruth.csv'):
    write(raw, name, header, *lines)
    plant(raw, [f'ISIC2018_Task3_Test_Images/ISIC_010000{i}.jpg' for i in range(2)])


def test_two_parts_in_two_folders(raw, tmp_path):
    found = listing('ham10000', raw, tmp_path)
    assert rows(found, 'image_path', 'case_id', 'label') == [
        ('HAM10000_images_part_1/ISIC_0000001.jpg', 'HAM_1', 'bkl'),
        ('HAM10000_images_part_1/ISIC_0000002.jpg', 'HAM_1', 'bkl'),
        ('HAM10000_images_part_2/ISIC_0000003.jpg', 'HAM_2', 'mel'),
    ]
    assert rows(found, 'site', 'dataset', 'confirmed_by') == [
        ('back', 'rosendahl', 'consensus'),
        ('scalp', 'vidir_modern', 'histo'),
        ('scalp', 'vidir_modern', 'histo'),
    ]
    assert column(found, 'patient_id') == [''] * 3
    assert column(found, 'age') == ['80.0', '80.0', ''] and column(found, 'sex')[2] == 'unknown'
    assert 'split' not in found.table
    assert found.announcements == (
        f'{raw}: all images are of the published training part: no split is taken over',
    )


def test_the_copy_without_the_column_of_sources(raw, tmp_path):
    lines = (raw / 'HAM10000_metadata').read_text().splitlines()
    (raw / 'HAM10000_metadata').unlink()
    write(raw, 'HAM10000_metadata.csv', *(line.rpartition(',')[0] for line in lines))
    found = listing('ham10000', raw, tmp_path)
    assert len(found.table) == 3 and 'dataset' not in found.table


def test_tabs_as_dataverse_writes_them(raw, tmp_path):
    text = (raw / 'HAM10000_metadata').read_text()
    (raw / 'HAM10000_metadata').unlink()
    write(raw, 'HAM10000_metadata.tab', text.replace(',', '\t'))
    assert column(listing('ham10000', raw, tmp_path), 'label') == ['bkl', 'bkl', 'mel']


def test_the_test_set_in_the_columns_of_the_training_set(raw, tmp_path):
    with_test_set(
        raw,
        HEADER,
        'HAMTEST_1,ISIC_0100000,nv,histo,50.0,female,back,vidir_modern',
        'HAMTEST_1,ISIC_0100001,nv,histo,50.0,female,back,vidir_modern',
    )
    found = listing('ham10000', raw, tmp_path)
    assert column(found, 'label') == ['bkl', 'bkl', 'mel', 'nv', 'nv']
    assert column(found, 'case_id')[3:] == ['HAMTEST_1', 'HAMTEST_1']
    assert column(found, 'split')[3:] == ['test', 'test']
    assert set(column(found, 'split')[:3]) <= {'train', 'val'}
    assert len(found.announcements) == 1 and 'no validation' in found.announcements[0]


def test_the_test_set_as_the_challenge_writes_it(raw, tmp_path):
    with_test_set(
        raw, ONE_HOT, 'ISIC_0100000,0.0,0.0,0.0,1.0,0.0,0.0,0.0', 'ISIC_0100001,1,0,0,0,0,0,0'
    )
    found = listing('ham10000', raw, tmp_path)
    assert column(found, 'label')[3:] == ['akiec', 'mel']
    assert column(found, 'case_id')[3:] == ['', '']


def test_two_classes_in_a_row(raw):
    with_test_set(raw, ONE_HOT, 'ISIC_0100000,1.0,0.0,0.0,1.0,0.0,0.0,0.0')
    assert 'GroundTruth.csv row 2: akiec and mel are both 1' in complaint('ham10000', raw)
    with_test_set(raw, ONE_HOT, 'ISIC_0100000,0.5,0.0,0.0,0.5,0.0,0.0,0.0')
    assert "row 2: akiec '0.5' is neither 1.0 nor 0.0" in complaint('ham10000', raw)
    with_test_set(raw, ONE_HOT.replace('DF', 'XX'), 'ISIC_0100000,0,0,0,0,0,0,1')
    assert "no column 'df'; columns found: image, MEL" in complaint('ham10000', raw)


def test_an_image_that_lies_twice(raw, tmp_path):
    plant(raw, ['ham10000_images_part_2/ISIC_0000003.jpg'])
    found = listing('ham10000', raw, tmp_path)
    assert column(found, 'image_path')[2] == 'HAM10000_images_part_2/ISIC_0000003.jpg'
    assert found.announcements[0] == (
        f'{raw}: 1 images are there more than once, the first is taken: '
        'HAM10000_images_part_2/ISIC_0000003.jpg, not ham10000_images_part_2/ISIC_0000003.jpg'
    )


def test_a_part_that_was_not_downloaded(raw, tmp_path):
    (raw / 'HAM10000_images_part_2/ISIC_0000003.jpg').unlink()
    found = listing('ham10000', raw, tmp_path)
    assert len(found.table) == 2
    assert f'1 of 3 images named in {raw}/HAM10000_metadata are not in' in found.announcements[0]


def test_complaints(raw, tmp_path):
    edit(raw / 'HAM10000_metadata', 'mel,', 'melanoma,')
    message = complaint('ham10000', raw)
    assert "HAM10000_metadata row 4: dx 'melanoma' is none of akiec, bcc, bkl" in message
    assert 'no file HAM10000_metadata.csv or' in complaint('ham10000', raw / '__MACOSX')
    assert 'no such folder' in complaint('ham10000', tmp_path / 'nowhere')
    bare = tmp_path / 'bare'
    write(bare, 'HAM10000_metadata', HEADER, 'HAM_1,ISIC_0000001,bkl,histo,80.0,male,scalp,x')
    message = complaint('ham10000', bare)
    assert 'none of the images named in' in message
    assert 'expected there: HAM10000_metadata.csv (or' in message
