import signal
import threading

import jax
import numpy as np
import pytest
from PIL import Image, ImageOps

from big_ssl.augment.crops import Crop, crop_boxes
from big_ssl.data import pipeline, windows
from big_ssl.data.cases import Units, units_of_cases, units_of_images
from big_ssl.data.images import read_headers
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.train import mesh as mesh_lib
from tests.helpers import host_views, manifest_of, save, smooth

CROP = Crop()
WHOLE = slice(None)


def table_of(folder, shapes, *, form='png', channels=3, per_case=3, **options):
    """A table of one smooth image a shape, some in each case."""
    rows = []
    for i, shape in enumerate(shapes):
        name = f'{i}.{form}' if isinstance(form, str) else form[i]
        save(folder / name, smooth(*shape, seed=i), **options)
        rows.append((name, f'c{i // per_case}', '', '', 'train'))
    manifest = manifest_of(folder, rows)
    return read_headers(manifest, np.arange(len(rows)), channels)


def sampler_of(table, pairing='case', batch_size=4, views=2, seed=0):
    units = {'case': units_of_cases, 'augment': units_of_images}[pairing]
    rows = np.arange(len(table.manifest))
    return Sampler(units(table.manifest, rows), seed=seed, batch_size=batch_size, views=views)


def views_of(table, sampler, steps, part=WHOLE, size=16):
    return list(host_views(table, sampler, steps, part, size=size, crop=CROP))


def by_pillow(table, sampler, step, size, reduced_to=None):
    """Every view by Pillow: whole image, crop of the box, BILINEAR."""
    batch = sampler.batch(step)
    sides = table.sizes[batch.images]
    boxes = crop_boxes(sampler.crops(batch), sides[..., 0], sides[..., 1], CROP)
    views = np.zeros((*batch.images.shape, size, size, table.channels))
    for place in np.ndindex(batch.images.shape):
        image = Image.open(table.manifest.image_path[batch.images[place]])
        if table.channels == 1:
            image.draft('L', image.size)  # of a JPEG, the luma that it stores
        image = ImageOps.exif_transpose(image).convert('RGB' if table.channels == 3 else 'L')
        y, x, height, width = boxes[place].tolist()
        view = image.crop((x, y, x + width, y + height)).resize((size, size), Image.BILINEAR)
        views[place] = np.reshape(view, (size, size, -1))
    return views, boxes


SHAPES = [(40, 60), (64, 48), (50, 50), (30, 90), (33, 47), (8, 12), (64, 64)]


@pytest.mark.parametrize('pairing', ['case', 'augment'])
@pytest.mark.parametrize('form', ['png', 'jpg'])
def test_views_are_pillows_crops(tmp_path, pairing, form):
    """Within one level where no box is larger than its view: Pillow rounds after each axis."""
    table = table_of(tmp_path, SHAPES, form=form)
    sampler = sampler_of(table, pairing, batch_size=8)
    for step, found in enumerate(views_of(table, sampler, range(3), size=90)):
        expected, boxes = by_pillow(table, sampler, step, 90)
        assert boxes[..., 2:].max() <= 90
        assert found.dtype == np.uint8 and found.shape == (8, 2, 90, 90, 3)
        assert abs(found - expected).max() <= 1


@pytest.mark.parametrize('form', ['png', 'jpg'])
def test_smaller_views_are_close_to_pillows_crops(tmp_path, form):
    """No box is 64 pixels on both sides, so that every JPEG is decoded at full size."""
    table = table_of(tmp_path, SHAPES, form=form)
    sampler = sampler_of(table, batch_size=8)
    for step, found in enumerate(views_of(table, sampler, range(3), size=32)):
        expected, boxes = by_pillow(table, sampler, step, 32)
        assert 1.5 * 32 < boxes[..., 2:].max() < 4 * 32 and boxes[..., 2:].min(-1).max() < 2 * 32
        assert abs(found - expected).max() <= 3
        assert abs(found - expected).mean() < 0.3


@pytest.mark.parametrize('pairing', ['case', 'augment'])
def test_jpegs_decoded_at_a_reduced_size_stay_close(tmp_path, pairing):
    """Half, quarter and eighth: the box grows to whole pixels of the reduced image."""
    table = table_of(tmp_path, [(300, 400), (512, 480), (250, 700)] * 2, form='jpg', quality=95)
    sampler = sampler_of(table, pairing, batch_size=16)
    (found,) = views_of(table, sampler, range(1), size=24)
    expected, boxes = by_pillow(table, sampler, 0, 24)
    reduction = boxes[..., 2:].min(axis=-1) / 24
    assert (reduction >= 8).any() and (reduction < 8).any()
    difference = abs(found - expected)
    assert difference.mean() < 2
    assert difference.mean(axis=(2, 3, 4)).max() < 5


def test_grey_to_three_channels_and_colour_to_one(tmp_path):
    """One level of the resize, and one of the grey of a colour PNG, which is rounded down."""
    save(tmp_path / 'a.png', smooth(30, 40)[..., 0])
    save(tmp_path / 'b.jpg', smooth(30, 40, seed=1)[..., 0])
    save(tmp_path / 'c.png', smooth(30, 40, seed=2))
    save(tmp_path / 'd.jpg', smooth(30, 40, seed=3), quality=95)
    rows = [(name, 'c', '', '', 'train') for name in ('a.png', 'b.jpg', 'c.png', 'd.jpg')]
    manifest = manifest_of(tmp_path, rows)
    for channels in (3, 1):
        table = read_headers(manifest, np.arange(4), channels)
        sampler = sampler_of(table, 'augment')
        (found,) = views_of(table, sampler, range(1), size=20)
        assert found.shape == (4, 2, 20, 20, channels)
        expected, _ = by_pillow(table, sampler, 0, 20)
        assert abs(found - expected).max() <= 2


@pytest.mark.parametrize('mode', ['1', 'P', 'LA', 'RGBA'])
def test_every_accepted_mode(tmp_path, mode):
    Image.fromarray(smooth(30, 40)).convert(mode).save(tmp_path / 'a.png')
    manifest = manifest_of(tmp_path, [('a.png', '', '', '', 'train')])
    table = read_headers(manifest, np.arange(1), 3)
    sampler = sampler_of(table, 'augment')
    (found,) = views_of(table, sampler, range(1), size=40)
    assert abs(found - by_pillow(table, sampler, 0, 40)[0]).max() <= 1


@pytest.mark.parametrize('turn', range(2, 9))
@pytest.mark.parametrize('size', [16, 220])
def test_images_are_turned_as_exif_says(tmp_path, turn, size):
    """Pillow's `exif_transpose` is the other side; 16 px crops are decoded at reduced size."""
    exif = Image.Exif()
    exif[0x0112] = turn
    table = table_of(tmp_path, [(150, 220)] * 4, form='jpg', exif=exif, quality=95)
    assert table.sizes[0].tolist() == ([220, 150] if turn > 4 else [150, 220])
    sampler = sampler_of(table)
    (found,) = views_of(table, sampler, range(1), size=size)
    difference = abs(found - by_pillow(table, sampler, 0, size)[0])
    assert difference.max() <= 1 if size == 220 else difference.mean() < 2


@pytest.mark.parametrize('window', ['full', 'minmax', '300,5000'])
@pytest.mark.parametrize('channels', [1, 3])
def test_sixteen_bit_images_are_windowed(tmp_path, window, channels):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 6000, (40, 50)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / 'a.png')
    save(tmp_path / 'b.png', smooth(40, 50)[..., 0])
    manifest = manifest_of(tmp_path, [(f'{n}.png', 'c', '', '', 'train') for n in 'ab'])
    low, high = {'full': (0, 65535), 'minmax': (deep.min(), deep.max())}.get(window, (300, 5000))
    shown = np.rint((np.clip(deep.astype(float), low, high) - low) / (high - low) * 255)
    table = read_headers(manifest, np.arange(2), channels, windows.parse(window, 'window'))
    sampler = sampler_of(table)
    (found,) = views_of(table, sampler, range(1), size=40)
    Image.fromarray(shown.astype(np.uint8)).save(tmp_path / 'a.png')
    assert abs(found - by_pillow(table, sampler, 0, 40)[0]).max() <= 1


def test_formats_mixed_and_awkward_names(tmp_path):
    names = [
        'scan 1.png',
        'größe é.jpg',
        'ケース/画像 2.jpeg',
        "it's, 100%.png",
        'no suffix',
        'x#y?.jpg',
    ]
    for i, name in enumerate(names):
        form = 'JPEG' if name.endswith(('jpg', 'jpeg')) else 'PNG'
        save(tmp_path / name, smooth(20 + i, 30, seed=i), format=form)
    manifest = manifest_of(tmp_path, [(name, 'c', '', '', 'train') for name in names])
    table = read_headers(manifest, np.arange(6), 3)
    sampler = sampler_of(table, 'case', batch_size=6, views=4)
    (found,) = views_of(table, sampler, range(1), size=30)
    assert set(np.unique(sampler.batch(0).images)) == set(range(6))
    assert abs(found - by_pillow(table, sampler, 0, 30)[0]).max() <= 1


@pytest.mark.parametrize('hosts', [2, 4])
def test_parts_of_the_hosts_make_the_batch(tmp_path, hosts):
    table = table_of(tmp_path, SHAPES, form='jpg')
    sampler = sampler_of(table, batch_size=8)
    whole = np.stack(views_of(table, sampler, range(3)))
    size = 8 // hosts
    parts = [
        views_of(table, sampler, range(3), slice(host * size, (host + 1) * size))
        for host in range(hosts)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


def test_a_later_start_gives_the_same_batches(tmp_path):
    table = table_of(tmp_path, SHAPES, form='jpg')
    sampler = sampler_of(table)
    ahead = views_of(table, sampler, range(6))
    later = views_of(table, sampler_of(table), range(4, 6))
    assert len(ahead) == 6 and len(later) == 2
    assert np.array_equal(np.stack(ahead[4:]), np.stack(later))
    assert not np.array_equal(ahead[0], ahead[1])
    assert views_of(table, sampler, range(3, 3)) == []


def test_a_unit_of_one_image_gives_different_crops(tmp_path):
    table = table_of(tmp_path, [(50, 60)])
    (found,) = views_of(table, sampler_of(table, batch_size=8), range(1))
    assert (found[:, 0] != found[:, 1]).any(axis=(1, 2, 3)).all()


def damage_half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_end(path):
    """A PNG without its IEND: Pillow accepts it."""
    path.write_bytes(path.read_bytes()[:-12])


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ('form', 'damage'),
    [('jpg', damage_half), ('png', damage_half), ('png', cut_end), ('jpg', remove)],
)
def test_a_file_that_breaks_under_way_is_named(tmp_path, form, damage):
    shapes = [(60, 70)] * 40
    table = table_of(tmp_path, shapes, form=form, per_case=1)
    sampler = sampler_of(table, batch_size=4)
    order = np.concatenate([sampler.batch(step).images[:, 0] for step in range(10)])
    assert len(set(order.tolist())) == 40
    victim = int(order[25])  # in the seventh batch
    damage(tmp_path / f'{victim}.{form}')
    batches = host_views(table, sampler, range(10), WHOLE, size=16, crop=CROP)
    for _ in range(6):
        next(batches)
    with pytest.raises(InputError) as caught:
        next(batches)
    message = str(caught.value)
    assert f'table.csv row {victim + 2}: {tmp_path}/{victim}.{form}: ' in message
    assert '\n' not in message


def test_three_views_of_which_two_are_one_image(tmp_path):
    """An example that is neither one image nor all different ones."""
    table = table_of(tmp_path, [(300, 310), (40, 50)], form='jpg', per_case=2, quality=95)
    sampler = sampler_of(table, batch_size=4, views=3)
    (found,) = views_of(table, sampler, range(1), size=32)
    expected, _ = by_pillow(table, sampler, 0, 32)
    assert abs(found - expected).mean(axis=(2, 3, 4)).max() < 5


def test_tiny_and_very_long_images(tmp_path):
    shapes = [(1, 1), (1, 200), (300, 2), (2, 2)]
    table = table_of(tmp_path, shapes, per_case=1)
    units = Units(np.arange(5), np.arange(4), np.arange(4))
    sampler = Sampler(units, seed=0, batch_size=4, views=2)
    (found,) = views_of(table, sampler, range(1), size=8)
    assert abs(found - by_pillow(table, sampler, 0, 8)[0]).max() <= 1


def test_a_signal_is_heard_while_a_batch_is_waited_for(tmp_path, monkeypatch):
    """Reading hangs, as on a network share: it ends when the signal's handler says so."""

    class Stopped(Exception):
        pass

    def stop(*_):
        free.set()
        raise Stopped

    free, in_time, read = threading.Event(), [], pipeline.encoded

    def hanging(*of):
        in_time.append(free.wait(60))
        return read(*of)

    monkeypatch.setattr(pipeline, 'encoded', hanging)
    table = table_of(tmp_path, SHAPES)
    batches = host_views(table, sampler_of(table), range(3), size=16, crop=CROP)
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Stopped):
            next(batches)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert in_time and all(in_time)


@pytest.mark.parametrize('count', [1, 8])
def test_what_devices_hold_stays(tmp_path, count):
    """However they take it: a CPU may read TensorFlow's own memory."""
    table, mesh = table_of(tmp_path, SHAPES), mesh_lib.make_mesh(jax.devices()[:count])
    sampler = sampler_of(table, batch_size=8)
    on_devices = [
        mesh_lib.spread(views, mesh)
        for views in host_views(table, sampler, range(20), size=16, crop=CROP)
    ]
    again = host_views(table, sampler, range(20), size=16, crop=CROP)
    for held, expected in zip(on_devices, again):
        np.testing.assert_array_equal(held, expected)
