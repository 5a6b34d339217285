import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from big_ssl.augment.crops import crop_boxes
from big_ssl.config import defaults
from big_ssl.data import feed
from big_ssl.data.cases import units_of_cases, units_of_images
from big_ssl.data.device import device_batches, stored_images
from big_ssl.data.images import read_headers
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.train.mesh import make_mesh
from tests.helpers import manifest_of, save, smooth

CROP = {'area': (0.08, 1.0), 'aspect': (0.75, 4 / 3)}
SHAPES = [(60, 80), (64, 48), (100, 100), (90, 70), (70, 70), (48, 96)]


@pytest.fixture
def table(tmp_path):
    """Six images in three cases; rows 0 and 7 belong to no split."""
    rows = [('unused.png', '', '', '', '')]
    for i, shape in enumerate(SHAPES):
        save(tmp_path / f'{i}.png', smooth(*shape, seed=i))
        rows.append((f'{i}.png', f'c{i // 2}', '', '', 'train'))
    manifest = manifest_of(tmp_path, [*rows, ('unused too.png', '', '', '', '')])
    return read_headers(manifest, np.arange(1, 7), 3)


def sampler_of(table, units=units_of_cases, batch_size=8):
    return Sampler(units(table.manifest, np.arange(1, 7)), seed=0, batch_size=batch_size, views=2)


def test_stored_images_are_pillows_squares(table):
    rows = np.array([5, 2])
    stored = stored_images(table, rows, 40, limit_bytes=10**9)
    assert stored.shape == (2, 40, 40, 3) and stored.dtype == np.uint8
    for found, row in zip(stored, rows):
        image = Image.open(table.manifest.image_path[row]).resize((40, 40), Image.BILINEAR)
        assert np.array_equal(found, np.asarray(image))


def test_stored_grey_images(table):
    grey = read_headers(table.manifest, np.arange(1, 7), 1)
    (stored,) = stored_images(grey, np.array([3]), 40, limit_bytes=10**9)
    image = Image.open(table.manifest.image_path[3]).convert('L').resize((40, 40), Image.BILINEAR)
    assert np.array_equal(stored[..., 0], np.asarray(image)) and stored.shape == (40, 40, 1)


def test_too_many_images_are_refused_with_the_numbers(table):
    needed = 6 * 1024 * 1024 * 3
    assert len(stored_images(table, np.arange(1, 3), 8, limit_bytes=2 * 8 * 8 * 3)) == 2
    with pytest.raises(InputError) as caught:
        stored_images(table, np.arange(1, 7), 1024, limit_bytes=needed - 1)
    message = str(caught.value)
    for part in ('6 images of 1024 x 1024 x 3', '0.0 GiB', 'device_size', 'placement=host'):
        assert part in message
    with pytest.raises(InputError, match=r'needs 12\.0 GiB for .* the device has 1\.5 GiB'):
        stored_images(table, np.repeat(1, 1024), 2048, limit_bytes=3 * 2**29)


@pytest.mark.parametrize('units', [units_of_cases, units_of_images])
def test_same_images_and_boxes_as_the_host(table, units):
    """Boxes in stored pixels, scaled back, are the whole pixels of `crop_boxes`."""
    sampler, rows = sampler_of(table, units), np.array([6, 5, 4, 3, 2, 1])
    plan = device_batches(table, sampler, range(2, 5), slice(2, 6), rows=rows, size=50, **CROP)
    for step, (position, boxes) in zip(range(2, 5), plan):
        batch = sampler.batch(step)
        assert np.array_equal(rows[position], batch.images[2:6])
        sides = table.sizes[batch.images]
        expected = crop_boxes(sampler.crops(batch), sides[..., 0], sides[..., 1], **CROP)[2:6]
        scale = np.tile(sides[2:6] / 50, 2)
        assert boxes.dtype == np.float32 and abs(boxes * scale - expected).max() < 1e-4
        assert boxes.min() >= 0 and (boxes[..., :2] + boxes[..., 2:]).max() < 50 + 1e-4


def config_of(placement):
    config = defaults()
    config.image_size = 32
    config.batch_size = 8
    config.dataset.placement = placement
    config.crop.area, config.crop.aspect = CROP['area'], CROP['aspect']
    return config


def fed(table, placement, steps, **options):
    training = feed.Feed(config_of(placement), table, sampler_of(table), make_mesh(), **options)
    return list(training.batches(steps))


def test_both_ways_differ_by_resampling_alone(table):
    """The device crops what was made square before: a third of a level of 255 on slow waves.

    A wrong image, box or axis differs by 20 and more.
    """
    pytest.importorskip('tensorflow')
    ways = [fed(table, placement, range(3)) for placement in ('host', 'device')]
    for host, device in zip(*ways):
        a, b = (np.asarray(feed.views(batch, 32)) for batch in (host, device))
        assert a.shape == b.shape == (8, 2, 32, 32, 3) and a.dtype == b.dtype == np.uint8
        difference = abs(a.astype(float) - b)
        assert difference.mean() < 0.7
        assert difference.mean(axis=(2, 3, 4)).max() < 1
        assert abs(a - b[::-1].astype(float)).mean() > 20
        assert np.array_equal(host['examples'], device['examples'])


@pytest.mark.parametrize('placement', ['host', 'device'])
def test_batches_and_their_extras_are_laid_out_on_the_mesh(table, placement):
    pytest.importorskip('tensorflow')
    (first, second) = fed(
        table,
        placement,
        range(4, 6),
        whole=lambda indices: {'groups': indices.groups.astype(np.int32)},
        part=lambda indices: {'targets': indices.images[:, 0].astype(np.int32)},
    )
    expected = sampler_of(table).batch(5)
    assert second['examples'].tolist() == list(range(40, 48))
    assert second['groups'].tolist() == expected.groups.tolist()
    assert second['targets'].tolist() == expected.images[:, 0].tolist()
    assert second['groups'].sharding.is_fully_replicated
    pixels = 'views' if placement == 'host' else 'boxes'
    for name in ('examples', 'targets', pixels):
        assert len(second[name].addressable_shards) == jax.device_count() == 8
        assert second[name].addressable_shards[0].data.shape[0] == 1
    assert set(first) == set(second)


def test_a_batch_that_does_not_divide_over_the_devices(table):
    config = config_of('device')
    with pytest.raises(InputError, match='batch_size=12 does not divide over 8 devices'):
        feed.Feed(config, table, sampler_of(table, batch_size=12), make_mesh())


ROOMS_WITHOUT_TENSORFLOW = [
    'data.device',
    'data.feed',
    'data.images',
    'data.sampler',
    'losses.ntxent',
    'losses.classification',
    'models.networks',
    'augment.simclr',
    'train.loop',
    'train.checkpoint',
    'train.writers',
    'evaluation.summary',
    'report.page',
    'tasks.contrastive',
    'tasks.supervised',
    'main',
]


def test_imports_without_tensorflow():
    code = (
        f'import sys, importlib\nfor name in {ROOMS_WITHOUT_TENSORFLOW}:\n'
        "    importlib.import_module('big_ssl.' + name)\n"
        "    assert not [m for m in sys.modules if m.split('.')[0] == 'tensorflow'], name\n"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
