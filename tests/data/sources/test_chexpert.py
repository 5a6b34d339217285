import numpy as np
import pytest

from big_ssl.data import labels
from big_ssl.data.sources import SOURCES
from tests.data.sources.published_trees import column, complaint, edit, listing, plant, rows, write
from tests.helpers import manifest_of

HEADER = (
    'Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,'
    'Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,'
    'Pleural Effusion,Pleural Other,Fracture,Support Devices'
)
TRAIN = (
    'train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0',
    'train/patient00002/study1/view1_frontal.jpg,Male,57,Frontal,PA,,,1.0,,,-1.0,-1.0,,,,1.0,,,',
    'train/patient00002/study1/view2_lateral.jpg,Male,57,Lateral,,,,1.0,,,-1.0,-1.0,,,,1.0,,,',
    'train/patient00002/study2/view1_frontal.jpg,Male,58,Frontal,PA,,,0.0,,,,,,,,,,,',
)
VALID = (
    'valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0.0,0.0,0.0,'
    '0.0,0.0,0.0,0.0,0.0,0.0,0.0',
)
TEST_HEADER = HEADER.replace('Sex,Age,Frontal/Lateral,AP/PA,No Finding,', '')
TEST = ('test/patient64741/study1/view1_frontal.jpg,1,1,1,0,0,0,0,0,0,0,0,0,1',)


def table(raw, name, header, lines, prefix):
    write(raw, name, header, *(prefix + line for line in lines))
    plant(raw, [line.partition(',')[0] for line in lines])


@pytest.fixture(params=['CheXpert-v1.0-small/', 'CheXpert-v1.0/'])
def raw(tmp_path, request):
    raw = tmp_path / request.param
    table(raw, 'train.csv', HEADER, TRAIN, request.param)
    table(raw, 'valid.csv', HEADER, VALID, request.param)
    return raw


def test_studies_splits_and_findings(raw, tmp_path):
    found = listing('chexpert', raw, tmp_path / 'kept')
    assert column(found, 'image_path') == [line.partition(',')[0] for line in TRAIN + VALID]
    assert column(found, 'case_id') == [
        'patient00001/study1', 'patient00002/study1', 'patient00002/study1',
        'patient00002/study2', 'patient64541/study1',
    ]  # fmt: skip
    assert column(found, 'patient_id') == [case[:12] for case in column(found, 'case_id')]
    unsure = 'Cardiomegaly|Edema?|Consolidation?|Pleural Effusion'
    assert column(found, 'label') == [
        'No Finding|Support Devices', unsure, unsure, '|',
        'Enlarged Cardiomediastinum|Cardiomegaly|Lung Opacity',
    ]  # fmt: skip
    assert column(found, 'split') == ['train'] * 4 + ['val']
    assert rows(found, 'age', 'sex', 'view', 'projection')[:2] == [
        ('57', 'Male', 'Frontal', 'PA'),
        ('57', 'Male', 'Lateral', ''),
    ]
    assert found.announcements == ()


def test_the_parent_folder(raw, tmp_path):
    found = listing('chexpert', raw.parent, tmp_path / 'kept')
    assert column(found, 'image_path')[0] == f'{raw.name}/train/patient00001/study1/' + (
        'view1_frontal.jpg'
    )


def test_the_test_set(raw, tmp_path):
    table(raw, 'test_labels.csv', TEST_HEADER, TEST, '')
    found = listing('chexpert', raw, tmp_path / 'kept')
    assert column(found, 'split') == ['train'] * 4 + ['val', 'test']
    assert column(found, 'label')[5] == (
        'Enlarged Cardiomediastinum|Cardiomegaly|Lung Opacity|Support Devices'
    )
    assert column(found, 'sex')[5] == ''


def test_the_training_images_in_batches(tmp_path):
    raw = tmp_path / 'chexpertchestxrays'
    first = 'CheXpert-v1.0 batch 1 (validate & csv)'
    write(raw, f'{first}/train.csv', HEADER, *('CheXpert-v1.0/' + line for line in TRAIN))
    write(raw, f'{first}/valid.csv', HEADER, *('CheXpert-v1.0/' + line for line in VALID))
    places = [
        'CheXpert-v1.0 batch 2 (train 1)/patient00001/study1/view1_frontal.jpg',
        'CheXpert-v1.0 batch 3 (train 2)/patient00002/study1/view1_frontal.jpg',
        'CheXpert-v1.0 batch 3 (train 2)/patient00002/study1/view2_lateral.jpg',
        'CheXpert-v1.0 batch 3 (train 2)/patient00002/study2/view1_frontal.jpg',
        f'{first}/valid/patient64541/study1/view1_frontal.jpg',
    ]
    plant(raw, places)
    assert column(listing('chexpert', raw, tmp_path), 'image_path') == places


def test_both_resolutions_side_by_side(tmp_path):
    for name in ('CheXpert-v1.0-small/', 'CheXpert-v1.0/'):
        table(tmp_path / name, 'train.csv', HEADER, TRAIN, name)
    message = complaint('chexpert', tmp_path)
    assert 'both CheXpert-v1.0/train.csv and CheXpert-v1.0-small/train.csv are there' in message


def test_the_labels_are_what_a_task_reads(raw, tmp_path):
    source = SOURCES['chexpert']
    found = listing('chexpert', raw, tmp_path / 'kept').table[['image_path', 'label']]
    made = manifest_of(tmp_path, found.itertuples(index=False), ('image_path', 'label'))
    every = np.arange(5)
    task = labels.find_task(made, every, 'multi', source.negative)
    assert source.multilabel and 'No Finding' not in task.classes
    targets = labels.encode(made, every, task)
    assert np.isnan(targets[1, task.classes.index('Edema')])
    assert not targets[3].any() and targets[0].sum() == 1


def test_patients_that_are_not_there(raw, tmp_path):
    (raw / 'train/patient00001').rename(tmp_path / 'elsewhere')
    found = listing('chexpert', raw, tmp_path / 'kept')
    assert column(found, 'patient_id')[0] == 'patient00002'
    assert found.announcements == (
        f'1 of 4 images named in {raw}/train.csv are not in {raw}: left out',
    )


def test_complaints(raw, tmp_path):
    text = (raw / 'train.csv').read_text()
    edit(raw / 'train.csv', 'PA,,,1.0', 'PA,,,2.0')
    message = complaint('chexpert', raw)
    assert "train.csv row 3: Cardiomegaly '2.0' is none of 1.0, 0.0, -1.0 and empty" in message
    (raw / 'train.csv').write_text(text)
    edit(raw / 'train.csv', 'patient00002/study2', 'patient00002')
    assert 'train.csv row 5: Path ' in complaint('chexpert', raw)
    (raw / 'train.csv').write_text(text)
    edit(raw / 'train.csv', 'Edema', 'Oedema')
    assert "train.csv: no column 'Edema'; columns found: Path, Sex" in complaint('chexpert', raw)
    bare = tmp_path / 'bare'
    write(bare, 'train.csv', *text.splitlines())
    assert f'none of the images named in {bare}/train.csv; expected there: train.csv' in (
        complaint('chexpert', bare)
    )
