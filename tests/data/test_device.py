import pkgutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks.photographs import textured
from big_ssl.augment.crops import Crop, crop_boxes
from big_ssl.config import defaults
from big_ssl.data import device, feed
from big_ssl.data.cases import Units, units_of_cases, units_of_images
from big_ssl.data.device import Layout, Pool, make_pool
from big_ssl.data.images import read_headers
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.train.mesh import make_mesh
from tests import runs
from tests.helpers import host_views, manifest_of, save, smooth

CROP = Crop(min_object_covered=0.1)
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


def pool_of(table, sampler=None, mesh=None, size=40, by_image=None):
    sampler, mesh = sampler or sampler_of(table), mesh or make_mesh()
    layout = Layout(size, table.channels)
    return make_pool(table, sampler, by_image or {}, mesh, layout=layout, crop=CROP)


def images_in(pool):
    """Pixels one after the other, then zeros, from the bytes that lie on the devices."""
    flat = np.asarray(pool.stored).reshape(len(pool.stored), -1)
    side, channels = pool.layout.size, pool.layout.channels
    assert not flat[:, side * side * channels :].any()
    return flat[:, : side * side * channels].reshape(-1, side, side, channels)


def drawn(source, step):
    return source.drawn(step)


def views_of(batch, size):
    return np.asarray(jax.jit(lambda batch: batch.views(size))(batch))


def arrays_of(batch):
    return jax.device_get({**batch.each, 'groups': batch.groups})


def drawn_of(pool, step):
    return arrays_of(jax.jit(drawn)(pool, jnp.int32(step)))


def test_stored_images_are_pillows_squares_one_part_a_device(table):
    pool = pool_of(table)
    assert pool.stored.shape == (8, 64, 128) and pool.stored.dtype == np.uint8
    assert [shard.data.shape[0] for shard in pool.stored.addressable_shards] == [1] * 8
    stored = images_in(pool)
    for found, row in zip(stored, range(1, 7)):
        image = Image.open(table.manifest.image_path[row]).resize((40, 40), Image.BILINEAR)
        assert np.array_equal(found, np.asarray(image))
    assert not stored[6:].any()


def test_stored_grey_images(table):
    grey = read_headers(table.manifest, np.arange(1, 7), 1)
    stored = images_in(pool_of(grey))
    image = Image.open(table.manifest.image_path[3]).convert('L').resize((40, 40), Image.BILINEAR)
    assert stored.shape == (8, 40, 40, 1) and np.array_equal(stored[2, ..., 0], np.asarray(image))


def test_too_many_images_are_refused_with_the_numbers(table):
    """Six images on eight devices: one on each."""
    layout, memory = Layout(1024, 3), 2 * 1024 * 1024 * 3  # half of which is for images
    feed.check_room(layout, 6, make_mesh(), memory)
    with pytest.raises(InputError) as caught:
        feed.check_room(layout, 6, make_mesh(), memory - 2)
    message = str(caught.value)
    for part in ('6 images of 1024 x 1024 x 3', 'in 8 parts', 'device_size', 'placement=host'):
        assert part in message
    one = make_mesh(jax.devices()[:1])
    with pytest.raises(InputError, match=r'needs 1\.1 GiB .* images .*, which has 1\.0 GiB'):
        feed.check_room(Layout(8192, 3), 6, one, 2**31)
    feed.check_room(Layout(8192, 3), 6, one, 0)  # of a device that does not say


def test_a_run_looks_at_the_room_before_it_decodes(table, monkeypatch):
    monkeypatch.setattr(feed, 'device_memory', lambda devices: 2 * 64 * 64 * 3 - 2)
    monkeypatch.setattr(device, 'decode', None)
    with pytest.raises(InputError, match='6 images of 64 x 64 x 3 in 8 parts'):
        fed(table, 'device', range(1))


@pytest.mark.parametrize('units', [units_of_cases, units_of_images])
@pytest.mark.parametrize('step', [0, 1, 7, 1000, 2**30])
def test_draws_are_those_of_the_host(table, units, step):
    """Boxes in stored pixels, scaled back, are the whole pixels of `crop_boxes`."""
    sampler = sampler_of(table, units)
    targets = np.arange(100, 108)
    found = drawn_of(pool_of(table, sampler, size=50, by_image={'targets': targets}), step)
    batch = sampler.batch(step)
    assert np.array_equal(found['position'] + 1, batch.images)
    assert np.array_equal(found['examples'], batch.examples.astype(np.uint32))
    assert np.array_equal(found['groups'], batch.groups)
    assert np.array_equal(found['targets'], targets[batch.images[:, 0]])
    sides = table.sizes[batch.images]
    expected = crop_boxes(sampler.crops(batch), sides[..., 0], sides[..., 1], CROP)
    assert found['boxes'].dtype == np.float32
    assert abs(found['boxes'] * np.tile(sides / 50, 2) - expected).max() < 1e-4


@pytest.mark.parametrize('count', [2, 5, 1000, 4097])
@pytest.mark.parametrize('views', [1, 2, 5])
def test_draws_of_large_and_uneven_data_sets(count, views):
    """As the host's, from cases of one to four images; nothing is stored."""
    rng = np.random.default_rng(count)
    offsets = np.concatenate([[0], rng.integers(1, 5, count).cumsum()])
    units = Units(offsets, rng.permutation(offsets[-1]), rng.integers(0, count, count))
    sampler = Sampler(units, seed=3, batch_size=64, views=views)
    sizes = rng.integers(1, 900, (offsets[-1], 2))
    pool = Pool(
        stored=jnp.zeros((8, 32, 128), jnp.uint8), layout=Layout(10, 1), sizes=jnp.asarray(sizes),
        offsets=jnp.asarray(offsets), images=jnp.asarray(units.images),
        groups=jnp.asarray(units.groups), by_image={}, seed=3, batch_size=64, views=views,
        mesh=make_mesh(), crop=CROP,
    )  # fmt: skip
    for step in (0, count // 64, 12345):
        found, batch = drawn_of(pool, step), sampler.batch(step)
        assert np.array_equal(found['position'], batch.images)
        assert np.array_equal(found['groups'], batch.groups)
        sides = sizes[batch.images]
        boxes = crop_boxes(sampler.crops(batch), sides[..., 0], sides[..., 1], CROP)
        assert np.allclose(found['boxes'], boxes * (10 / np.tile(sides, 2)), rtol=1e-6)


@pytest.mark.parametrize('devices', [1, 2, 8])
@pytest.mark.parametrize('at_once', [1, 10**9])
def test_crops_of_images_that_lie_elsewhere(table, devices, at_once, monkeypatch):
    """Each is Pillow's resize of the box in the stored image."""
    monkeypatch.setattr(device, '_AT_ONCE', at_once)
    pool = pool_of(table, mesh=make_mesh(jax.devices()[:devices]))
    batch = jax.jit(drawn)(pool, jnp.int32(3))
    found, batch = views_of(batch, 24), arrays_of(batch)
    stored = images_in(pool)
    for example, view in np.ndindex(8, 2):
        y, x, height, width = np.asarray(batch['boxes'])[example, view].tolist()
        image = Image.fromarray(stored[batch['position'][example, view]])
        box = (x, y, x + width, y + height)
        expected = np.asarray(image.resize((24, 24), Image.BILINEAR, box=box)).astype(float)
        assert abs(found[example, view] - expected).max() <= 1


def config_of(placement):
    config = defaults()
    config.image_size = 32
    config.batch_size = 8
    config.dataset.placement = placement
    config.crop.update(CROP._asdict())
    return config


def fed(table, placement, steps, **options):
    """Batches as the step sees them."""
    settings = config_of(placement), table, sampler_of(table), make_mesh()
    batches = zip(steps, feed.make_feed(*settings, **options)(steps))
    return [jax.jit(drawn)(batch, jnp.int32(step)) for step, batch in batches]


def test_both_ways_differ_by_resampling_alone(table):
    """The device crops what was made square before: a third of a level of 255 on slow waves.

    A wrong image, box or axis differs by 20 and more.
    """
    ways = [fed(table, placement, range(3)) for placement in ('host', 'device')]
    for of_host, of_device in zip(*ways):
        a, b = (views_of(batch, 32) for batch in (of_host, of_device))
        assert a.shape == b.shape == (8, 2, 32, 32, 3) and a.dtype == b.dtype == np.uint8
        difference = abs(a.astype(float) - b)
        assert difference.mean() < 0.7
        assert difference.mean(axis=(2, 3, 4)).max() < 1
        assert abs(a - b[::-1].astype(float)).mean() > 20
        assert np.array_equal(of_host.each['examples'], of_device.each['examples'])


def test_a_run_draws_the_same_boxes_in_both_ways_as_its_config_says(table):
    """CROP takes fewer boxes than are drawn: with the defaults some of these are others."""
    sampler = sampler_of(table)
    batch = sampler.batch(5)
    sides = table.sizes[batch.images]
    expected, usual = (
        crop_boxes(sampler.crops(batch), sides[..., 0], sides[..., 1], crop)
        for crop in (CROP, Crop())
    )
    assert (expected != usual).any()
    (of_device,) = fed(table, 'device', range(5, 6))
    scaled = np.asarray(of_device.each['boxes']) * np.tile(sides / 64, 2)
    np.testing.assert_array_equal(np.rint(scaled), expected)
    assert abs(scaled - expected).max() < 1e-4
    (of_host,) = fed(table, 'host', range(5, 6))
    (views,) = host_views(table, sampler, range(5, 6), slice(None), size=32, crop=CROP)
    np.testing.assert_array_equal(of_host.each['views'], views)


def detail(views):
    """Mean difference of neighbouring pixels, down and across."""
    return np.array([abs(np.diff(views.astype(float), axis=axis)).mean() for axis in (2, 3)])


@pytest.mark.parametrize(
    ('sides', 'mean', 'kept', 'warns'), [((300, 400), 6, 0.7, False), ((1000, 200), 12, 0.3, True)]
)
def test_what_the_stored_squares_lose_of_photographs(tmp_path, sides, mean, kept, warns, caplog):
    """Bounds the mean difference in levels, and the share of fine detail that is left."""
    for i in range(6):
        save(tmp_path / f'{i}.png', textured(*sides, i))
    rows = [(f'{i}.png', f'c{i // 2}', '', '', 'train') for i in range(6)]
    table = read_headers(
        manifest_of(tmp_path, [('unused.png', '', '', '', ''), *rows]), np.arange(1, 7), 3
    )
    of_host, of_device = (
        np.concatenate([views_of(batch, 32) for batch in fed(table, placement, range(3))])
        for placement in ('host', 'device')
    )
    difference = abs(of_host.astype(float) - of_device).mean(axis=(2, 3, 4))
    assert 1 < difference.mean() < mean and difference.max() < 2 * mean
    assert (detail(of_device) > kept * detail(of_host)).all()
    assert ('so elongated' in caplog.text) == warns


@pytest.mark.parametrize('placement', ['host', 'device'])
def test_batches_and_their_extras_are_laid_out_on_the_mesh(table, placement):
    targets = np.arange(100, 108, dtype=np.int32)
    (first, second) = fed(table, placement, range(4, 6), by_image={'targets': targets})
    expected = sampler_of(table).batch(5)
    assert second.each['examples'].tolist() == list(range(40, 48))
    assert second.groups.tolist() == expected.groups.tolist()
    assert second.each['targets'].tolist() == targets[expected.images[:, 0]].tolist()
    assert second.groups.sharding.is_fully_replicated
    pixels = 'views' if placement == 'host' else 'boxes'
    for name in ('examples', 'targets', pixels):
        assert len(second.each[name].addressable_shards) == jax.device_count() == 8
        assert second.each[name].addressable_shards[0].data.shape[0] == 1
    assert set(first.each) == set(second.each)


def test_a_batch_that_does_not_divide_over_the_devices(table):
    config = config_of('device')
    with pytest.raises(InputError, match='batch_size=12 does not divide over 8 devices'):
        feed.make_feed(config, table, sampler_of(table, batch_size=12), make_mesh())


ROOMS_WITHOUT_TENSORFLOW = [
    'data.device',
    'data.feed',
    'data.images',
    'data.sampler',
    'train.loop',
    'train.checkpoint',
    'train.writers',
    'train.progress',
    'train.profile',
    'evaluation.summary',
    'report.page',
    'tasks.training',
    'main',
    *(
        f'{room}.{module.name}'
        for room in ('losses', 'models', 'augment', 'methods')
        for module in pkgutil.iter_modules([str(runs.ROOT / 'big_ssl' / room)])
    ),
]


def test_imports_without_tensorflow():
    code = (
        f'import sys, importlib\nfor name in {ROOMS_WITHOUT_TENSORFLOW}:\n'
        "    importlib.import_module('big_ssl.' + name)\n"
        "    assert not [m for m in sys.modules if m.split('.')[0] == 'tensorflow'], name\n"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REFUSED = """
import sys
for name in ('tensorflow', 'clu.metric_writers.summary_writer', 'clu.metric_writers.tf'):
    sys.modules[name] = None
"""


def test_training_without_tensorflow(tmp_path, compile_cache, tiny_manifest):
    """Numbers go into lines alone, which is said once."""
    flags = '--config.dataset.placement=device', '--config.optimizer.name=lars'
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, *flags)
    output = runs.run(arguments, compile_cache, before=REFUSED)
    assert output.count('no TensorBoard events, TensorFlow cannot be imported') == 1
    assert [line['step'] for line in runs.metrics(tmp_path) if 'loss' in line] == [*range(1, 13)]
    expected = {'grad_norm', 'update_norm', 'param_norm', 'trust_ratio_min', 'trust_ratio_max'}
    assert expected <= runs.metrics(tmp_path)[1].keys()
    assert not list(tmp_path.glob('events.*'))
    table = (tmp_path / 'parameters.txt').read_text()
    assert 'encoder/conv_stem/kernel' in table and 'Total: ' in table
