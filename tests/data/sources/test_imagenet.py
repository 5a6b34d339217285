from tests.data.sources.published_trees import column, complaint, listing, plant, rows, write

FISH, COCK = 'n01440764', 'n01514668'


def test_splits_of_classes(tmp_path):
    raw = tmp_path / 'raw'
    plant(raw, [f'train/{FISH}/a.JPEG', f'train/{FISH}/b.JPEG', f'train/{COCK}/a.JPEG'])
    plant(raw, [f'validation/{COCK}/c.png'])
    write(raw, f'train/{FISH}/readme.txt', 'no image')
    found = listing('imagenet', raw, tmp_path)
    assert rows(found, 'image_path', 'label', 'split') == [
        (f'train/{FISH}/a.JPEG', FISH, 'train'),
        (f'train/{FISH}/b.JPEG', FISH, 'train'),
        (f'train/{COCK}/a.JPEG', COCK, 'train'),
        (f'validation/{COCK}/c.png', COCK, 'val'),
    ]
    assert set(column(found, 'case_id') + column(found, 'patient_id')) == {''}
    assert column(found, 'listed_in')[0] == f'{raw}/train/{FISH}'
    assert found.announcements == ()


def test_classes_alone(tmp_path):
    raw = tmp_path / 'raw'
    plant(raw, [f'{FISH}/a.JPEG', f'{COCK}/a.JPEG'])
    found = listing('imagenet', raw, tmp_path)
    assert column(found, 'label') == [FISH, COCK] and 'split' not in found.table


def test_the_training_images_alone_have_no_split(tmp_path):
    plant(tmp_path / 'raw', [f'train/{FISH}/a.JPEG'])
    found = listing('imagenet', tmp_path / 'raw', tmp_path)
    assert 'split' not in found.table and len(found.announcements) == 1


def test_what_is_left_out_is_announced(tmp_path):
    raw = tmp_path / 'raw'
    plant(raw, [f'train/{FISH}/a.JPEG', f'val/{FISH}/b.JPEG', 'test/x.JPEG', 'test/y.JPEG'])
    plant(raw, ['ILSVRC2012_devkit/z.JPEG'])
    found = listing('imagenet', raw, tmp_path)
    assert len(found.table) == 2
    assert found.announcements == (
        f'{raw}: folders that are no split, left out: ILSVRC2012_devkit',
        f'{raw}/test: 2 images in no folder of a class, left out',
    )


def test_no_images(tmp_path):
    (tmp_path / 'raw/train' / FISH).mkdir(parents=True)
    message = complaint('imagenet', tmp_path / 'raw')
    assert 'no image in a folder of its class; expected there: train/n01440764/' in message
    assert 'no such folder' in complaint('imagenet', tmp_path / 'nowhere')
