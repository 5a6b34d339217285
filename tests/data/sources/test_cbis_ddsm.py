import pytest

from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write

NEWER = (
    'patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,'
    'mass shape,mass margins,assessment,pathology,subtlety,image file path,'
    'cropped image file path,ROI mask file path'
)
OLDER = (
    'patient_id,breast_density,side,view,abn_num,abnormality_type,mass_shape,mass_margins,'
    'assessment,pathology,subtlety,od_img_path,od_crop_path,mask_path'
)
CALC = (
    'patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,'
    'calc type,calc distribution,assessment,pathology,subtlety,image file path,'
    'cropped image file path,ROI mask file path'
)


def row(folder, number, pathology, between='/'):
    patient, side, view = folder.split('_', 1)[1].rsplit('_', 2)
    path = between.join((folder, f'1.2.{folder}', '1.3.4', '000000.dcm'))
    crop = between.join((f'{folder}_{number}', '1.2.9', '1.3.9', '000000.dcm'))
    return (
        f'{patient},3,{side},{view},{number},mass,OVAL,SPICULATED,4,{pathology},4,{path},{crop},'
        f'"{crop}\n"'
    )


def at(folder, study=None, series='1.3.4', file='000000.dcm', below='CBIS-DDSM'):
    return f'{below}/{folder}/{study or f"1.2.{folder}"}/{series}/{file}'


@pytest.fixture
def raw(tmp_path):
    raw = tmp_path / 'raw'
    write(
        raw,
        'mass_case_description_train_set.csv',
        OLDER,
        row('Mass-Training_P_00001_LEFT_CC', 1, 'BENIGN', '\\'),
        row('Mass-Training_P_00001_LEFT_CC', 2, 'MALIGNANT', '\\'),
        row('Mass-Training_P_00001_LEFT_MLO', 1, 'BENIGN', '\\'),
        row('Mass-Training_P_00002_RIGHT_CC', 1, 'BENIGN_WITHOUT_CALLBACK', '\\'),
    )
    write(
        raw,
        'mass_case_description_test_set.csv',
        NEWER,
        row('Mass-Test_P_00003_RIGHT_CC', 1, 'BENIGN'),
    )
    write(
        raw,
        'calc_case_description_train_set.csv',
        CALC,
        row('Calc-Training_P_00004_LEFT_CC', 1, 'BENIGN'),
    )
    write(
        raw,
        'calc_case_description_test_set.csv',
        CALC,
        row('Calc-Test_P_00002_RIGHT_CC', 1, 'BENIGN'),
    )
    plant(
        raw,
        [
            at('Mass-Training_P_00001_LEFT_CC'),
            at('Mass-Training_P_00001_LEFT_CC_1'),
            at(
                'Mass-Training_P_00001_LEFT_MLO',
                '07-20-2016-DDSM-NA-30491',
                '1.000000-full mammogram images-33582',
                '1-1.dcm',
            ),
            at('Mass-Training_P_00002_RIGHT_CC'),
            at('Mass-Test_P_00003_RIGHT_CC', file='1-1.dcm'),
            at('Calc-Training_P_00004_LEFT_CC'),
            at('Calc-Test_P_00002_RIGHT_CC'),
        ],
    )
    return raw


def test_one_row_a_mammogram_labelled_by_its_worst_abnormality(raw, tmp_path):
    found = listing('cbis_ddsm', raw, tmp_path)
    paths = {
        'P_00001/LEFT CC': at('Mass-Training_P_00001_LEFT_CC'),
        'P_00001/LEFT MLO': at(
            'Mass-Training_P_00001_LEFT_MLO',
            '07-20-2016-DDSM-NA-30491',
            '1.000000-full mammogram images-33582',
            '1-1.dcm',
        ),
        'P_00002/RIGHT CC': at('Mass-Training_P_00002_RIGHT_CC'),
        'P_00003/RIGHT CC': at('Mass-Test_P_00003_RIGHT_CC', file='1-1.dcm'),
        'P_00004/LEFT CC': at('Calc-Training_P_00004_LEFT_CC'),
    }
    names = found.table['case_id'] + ' ' + found.table['view']
    assert dict(zip(names, found.table['image_path'])) == paths
    assert rows(found, 'case_id', 'patient_id', 'label', 'abnormality') == [
        ('P_00001/LEFT', 'P_00001', 'BENIGN', 'mass'),
        ('P_00001/LEFT', 'P_00001', 'MALIGNANT', 'mass'),
        ('P_00002/RIGHT', 'P_00002', 'BENIGN', 'calcification|mass'),
        ('P_00003/RIGHT', 'P_00003', 'BENIGN', 'mass'),
        ('P_00004/LEFT', 'P_00004', 'BENIGN', 'calcification'),
    ]
    assert column(found, 'density') == ['3'] * 5
    assert f'{raw}: 7 abnormalities in 5 mammograms' in found.announcements[1]
    assert '; 1 are published twice' in found.announcements[1]


def test_a_patient_of_both_splits_is_tested(raw, tmp_path):
    found = listing('cbis_ddsm', raw, tmp_path)
    split = dict(rows(found, 'patient_id', 'split'))
    assert split['P_00002'] == split['P_00003'] == 'test'
    assert {split['P_00001'], split['P_00004']} <= {'train', 'val'}
    assert found.announcements[0].startswith(f'{raw}: 1 patients are in both train and test')


def test_a_worst_label_that_stands_first(raw, tmp_path):
    path = raw / 'mass_case_description_train_set.csv'
    edit(path, ',BENIGN,', ',MALIGNANT,')
    edit(path, '2,mass,OVAL,SPICULATED,4,MALIGNANT,', '2,mass,OVAL,SPICULATED,4,BENIGN,')
    found = listing('cbis_ddsm', raw, tmp_path)
    assert ('P_00001/LEFT', 'CC', 'MALIGNANT') in rows(found, 'case_id', 'view', 'label')


def test_tables_and_images_that_are_not_there(raw, tmp_path):
    (raw / 'calc_case_description_test_set.csv').unlink()
    (raw / at('Mass-Training_P_00001_LEFT_CC')).unlink()
    found = listing('cbis_ddsm', raw, tmp_path)
    assert len(found.table) == 4
    assert found.announcements[0] == f'{raw}: no calc_case_description_test_set.csv'
    assert found.announcements[2].startswith('1 of 5 images named in')


def test_a_mammogram_of_which_one_copy_is_there(raw, tmp_path):
    (raw / at('Mass-Training_P_00002_RIGHT_CC')).unlink()
    found = listing('cbis_ddsm', raw, tmp_path)
    assert at('Calc-Test_P_00002_RIGHT_CC') in column(found, 'image_path')
    assert len(found.table) == 5


def test_a_folder_of_several_files(raw, tmp_path):
    plant(raw, [at('Mass-Test_P_00003_RIGHT_CC', file='1-2.dcm')])
    found = listing('cbis_ddsm', raw, tmp_path)
    assert 'P_00003' not in column(found, 'patient_id')


def test_complaints(raw, tmp_path):
    edit(raw / 'calc_case_description_test_set.csv', 'BENIGN', 'UNPROVEN')
    message = complaint('cbis_ddsm', raw)
    assert "calc_case_description_test_set.csv row 2: pathology 'UNPROVEN' is none" in message
    edit(raw / 'mass_case_description_test_set.csv', 'image file path', 'file')
    assert "no column 'od_img_path'; columns found: patient_id" in complaint('cbis_ddsm', raw)
    (tmp_path / 'bare').mkdir()
    assert 'no file mass_case_description_train_set.csv or mass' in (
        complaint('cbis_ddsm', tmp_path / 'bare')
    )
