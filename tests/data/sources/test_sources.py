"""What holds for every data set, and the header lines that their owners publish."""

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from big_ssl.data.sources import SOURCES
from tests.data.sources.published_trees import column, frame, listing, plant

HEADERS = Path(__file__).parents[3].parent / 'shared/data/metadata_headers'
NAMES = [
    'scin', 'ham10000', 'isic2019', 'pad_ufes_20', 'chexpert', 'chestxray14', 'mimic_cxr',
    'padchest', 'eyepacs', 'cbis_ddsm', 'imagenet',
]  # fmt: skip


def test_each_says_what_it_is():
    assert list(SOURCES) == NAMES
    for name, source in SOURCES.items():
        assert source.name == name and source.url.startswith('https://')
        assert source.title and source.terms and source.layout and source.case
        assert source.multilabel == bool(source.negative)


def test_neither_jax_nor_tensorflow():
    code = (
        "import sys, big_ssl.data.sources; sys.exit(bool({'jax', 'tensorflow'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.fixture
def real(tmp_path):
    """Copies one of the tables under a published name."""
    if not HEADERS.is_dir():
        pytest.skip(f'{HEADERS} is not there')

    def copy(table, name):
        path = tmp_path / 'raw' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HEADERS / table, path)
        return path

    copy.raw = tmp_path / 'raw'
    copy.kept = tmp_path
    return copy


def test_scin(real):
    cases = frame(real('scin/scin_cases.SYNTHETIC.csv', 'dataset/scin_cases.csv'))
    real('scin/scin_labels.SYNTHETIC.csv', 'dataset/scin_labels.csv')
    images = cases[[f'image_{i}_path' for i in (1, 2, 3)]].to_numpy().ravel()
    plant(real.raw, filter(None, images))
    found = listing('scin', real.raw, real.kept)
    assert column(found, 'image_path') == [path for path in images if path]
    assert set(column(found, 'case_id')) == set(cases['case_id'])
    assert len(set(column(found, 'label'))) > 2


@pytest.mark.parametrize('name', ['HAM10000_metadata', 'HAM10000_metadata.kaggle.csv'])
def test_ham10000(real, name):
    table = frame(real(f'ham10000/{name}', name.replace('.kaggle', '')))
    plant(real.raw, [f'HAM10000_images_part_1/{image}.jpg' for image in table['image_id']])
    found = listing('ham10000', real.raw, real.kept)
    assert column(found, 'case_id') == table['lesion_id'].tolist()
    assert column(found, 'label') == table['dx'].tolist()
    assert ('dataset' in found.table) == ('dataset' in table)


def test_pad_ufes_20(real):
    table = frame(real('pad_ufes_20/metadata.csv', 'metadata.csv'))
    plant(real.raw, [f'images/imgs_part_1/{image}' for image in table['img_id']])
    found = listing('pad_ufes_20', real.raw, real.kept)
    assert column(found, 'label') == table['diagnostic'].tolist()
    assert found.table['case_id'].nunique() == len(
        table[['patient_id', 'lesion_id']].drop_duplicates()
    )


def test_chexpert(real):
    tables = [real(f'chexpert/{name}.SYNTHETIC.csv', f'{name}.csv') for name in ('train', 'valid')]
    paths = [path.partition('/')[2] for table in tables for path in frame(table)['Path']]
    plant(real.raw, paths)
    found = listing('chexpert', real.raw, real.kept)
    assert column(found, 'image_path') == paths
    assert set(column(found, 'split')) == {'train', 'val'} and found.announcements == ()


@pytest.mark.parametrize('name', ['Data_Entry_2017_v2020.csv', 'kaggle_sample_labels.csv'])
def test_chestxray14(real, name):
    table = frame(real(f'nih_cxr14/{name}', name.removeprefix('kaggle_')))
    plant(real.raw, [f'images_001/images/{image}' for image in table['Image Index']])
    for which in ('train_val_list.txt', 'test_list.txt'):
        real(f'nih_cxr14/{which}', which)
    found = listing('chestxray14', real.raw, real.kept)
    assert column(found, 'label') == table['Finding Labels'].tolist()
    assert column(found, 'patient_id') == table['Patient ID'].tolist()
    official = (HEADERS / 'nih_cxr14/test_list.txt').read_text().split()
    images = [path.rpartition('/')[2] for path in column(found, 'image_path')]
    tested = [image for image, split in zip(images, column(found, 'split')) if split == 'test']
    assert tested == [image for image in images if image in official] and tested


def test_the_header_of_chestxray14_of_2017(real):
    path = real('nih_cxr14/Data_Entry_2017.original2017_header.csv', 'Data_Entry_2017.csv')
    path.write_text(path.read_text().strip('\n') + '\n1.png,Hernia,0,7,60,M,PA,1,1,0.1,0.1,\n')
    plant(real.raw, ['images/1.png'])
    assert column(listing('chestxray14', real.raw, real.kept), 'patient_id') == ['7']


def test_mimic_cxr(real):
    for name in ('metadata', 'split', 'chexpert'):
        path = real(
            f'mimic_cxr/mimic-cxr-2.0.0-{name}.SYNTHETIC.csv', f'mimic-cxr-2.0.0-{name}.csv'
        )
        (path.parent / f'{path.name}.gz').write_bytes(gzip.compress(path.read_bytes()))
        table = frame(path) if name == 'metadata' else table
        path.unlink()
    paths = [
        f'files/p{patient[:2]}/p{patient}/s{study}/{dicom}.jpg'
        for dicom, patient, study in zip(table['dicom_id'], table['subject_id'], table['study_id'])
    ]
    plant(real.raw, paths)
    found = listing('mimic_cxr', real.raw, real.kept)
    assert column(found, 'image_path') == paths
    assert '' not in column(found, 'label') and '' not in column(found, 'split')


def test_padchest(real):
    name = 'PADCHEST_chest_x_ray_images_labels_160K_01.02.19'
    table = frame(real(f'padchest/{name}.SYNTHETIC.csv', f'{name}.csv'))
    paths = (table['ImageDir'] + '/' + table['ImageID']).tolist()
    plant(real.raw, paths)
    found = listing('padchest', real.raw, real.kept)
    assert column(found, 'image_path') == paths and found.announcements == ()
    assert {'normal', 'cardiomegaly', 'pneumonia|pleural effusion'} <= set(column(found, 'label'))


def test_eyepacs(real):
    table = frame(real('eyepacs/trainLabels.SYNTHETIC.csv', 'trainLabels.csv'))
    plant(real.raw, [f'train/{image}.jpeg' for image in table['image']])
    found = listing('eyepacs', real.raw, real.kept)
    assert column(found, 'label') == table['level'].tolist()


def test_cbis_ddsm(real):
    name = 'mass_case_description_train_set.csv'
    table = frame(real(f'cbis_ddsm/{name}', name))
    paths = table['od_img_path'].str.strip().str.replace('\\', '/').unique().tolist()
    plant(real.raw, [f'CBIS-DDSM/{path}' for path in paths])
    found = listing('cbis_ddsm', real.raw, real.kept)
    assert column(found, 'image_path') == [f'CBIS-DDSM/{path}' for path in paths]
    worst = table[table['pathology'] == 'MALIGNANT']['od_img_path'].nunique()
    assert column(found, 'label').count('MALIGNANT') == worst
