import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image

from big_ssl.config import defaults
from big_ssl.data import evaluation
from big_ssl.data.images import read_headers
from big_ssl.errors import Diverged, InputError, Preempted
from big_ssl.tasks import inference
from big_ssl.train import mesh as mesh_lib
from tests import helpers

COUNT = 19


@pytest.fixture
def table(tmp_path):
    """Nineteen images of different sizes, each of another grey."""
    rows = []
    for i in range(COUNT):
        pixels = np.full((20 + i, 30, 3), 10 * i + 5, np.uint8)
        helpers.save(tmp_path / f'{i}.png', pixels)
        rows.append((f'{i}.png', '', '', '', 'test'))
    manifest = helpers.manifest_of(tmp_path, rows)
    return read_headers(manifest, np.arange(COUNT), 3)


def config_of(batch_size: int = 8):
    config = defaults()
    config.batch_size, config.image_size = batch_size, 8
    return config


def make_forward(mesh, calls: list):
    @jax.jit
    def mean(images):
        grey = images.astype(jnp.float32).mean(axis=(1, 2, 3))
        return jax.lax.with_sharding_constraint(
            {'grey': grey, 'twice': jnp.stack([grey, 2 * grey], axis=1)},
            mesh_lib.replicated(mesh),
        )

    def forward(images):
        calls.append(images)
        return mean(images)

    return forward


@pytest.mark.parametrize('rows', [range(19), range(16), range(1), [7, 3, 18, 0, 3, 11, 5, 2, 9]])
def test_every_image_counts_once_and_in_order(table, rows):
    rows, calls = np.array(rows), []
    mesh = mesh_lib.make_mesh()
    found = inference.over_images(config_of(), table, rows, make_forward(mesh, calls), mesh)
    np.testing.assert_array_equal(found['grey'], 10.0 * rows + 5)
    np.testing.assert_array_equal(found['twice'], (10.0 * rows + 5)[:, None] * [[1, 2]])
    assert len(calls) == -(-len(rows) // 8)
    for images in calls:
        assert images.shape == (8, 8, 8, 3) and images.dtype == np.uint8
        assert len(images.sharding.device_set) == 8


def test_the_number_of_devices_and_the_batch_change_nothing(table):
    one = Mesh(np.array(jax.devices()[:1]), ('data',))
    everything = np.arange(COUNT)
    found = [
        inference.over_images(config_of(size), table, everything, make_forward(mesh, []), mesh)
        for mesh, size in ((one, 8), (mesh_lib.make_mesh(), 16))
    ]
    np.testing.assert_array_equal(found[0]['grey'], found[1]['grey'])


def test_images_are_the_centre_crop(tmp_path):
    """What Pillow makes of the middle four fifths of the shorter side."""
    pixels = helpers.smooth(40, 64, noise=5)
    helpers.save(tmp_path / 'a.png', pixels)
    manifest = helpers.manifest_of(tmp_path, [('a.png', '', '', '', 'test')])
    table, mesh = read_headers(manifest, np.arange(1), 3), mesh_lib.make_mesh()

    def forward(images):
        return {'images': jax.device_put(images, mesh_lib.replicated(mesh))}

    config = config_of()
    config.crop.evaluation = 0.8
    found = inference.over_images(config, table, np.arange(1), forward, mesh)['images'][0]
    centre = Image.fromarray(pixels).crop((16, 4, 48, 36))
    np.testing.assert_array_equal(found, centre.resize((8, 8), Image.Resampling.BILINEAR))


def test_asked_to_stop_it_stops_after_the_batch(table):
    mesh, calls, asked = mesh_lib.make_mesh(), [], []

    def should_stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Preempted):
        forward = make_forward(mesh, calls)
        inference.over_images(config_of(), table, np.arange(COUNT), forward, mesh, should_stop)
    assert len(calls) == 2


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_outputs_that_are_not_finite_are_a_divergence(table, value):
    mesh = mesh_lib.make_mesh()

    def forward(images):
        grey = np.zeros((8, 2), np.float32)
        grey[3, 1] = value
        return {'grey': mesh_lib.copy(grey, mesh)}

    with pytest.raises(Diverged, match='not finite'):
        inference.over_images(config_of(), table, np.arange(COUNT), forward, mesh)


def test_an_image_that_does_not_decode_is_named(table, tmp_path):
    content = (tmp_path / '12.png').read_bytes()
    (tmp_path / '12.png').write_bytes(content[:60])
    mesh = mesh_lib.make_mesh()
    with pytest.raises(InputError, match=r'row 14: .*12\.png'):
        inference.over_images(config_of(), table, np.arange(COUNT), make_forward(mesh, []), mesh)


def test_rows_that_come_again_are_decoded_once(table, tmp_path):
    """Also after a time that was broken off; too many of them are decoded each time."""
    config, mesh, rows = config_of(), mesh_lib.make_mesh(), np.arange(COUNT)
    keeping, short = evaluation.keeping(), evaluation.keeping(limit=24 * 8 * 8 * 3 - 1)

    def found(batches, should_stop=None):
        forward = make_forward(mesh, [])
        return inference.over_images(config, table, rows, forward, mesh, should_stop, batches)

    with pytest.raises(Preempted):
        found(keeping, lambda: True)
    for batches in (keeping, short):
        np.testing.assert_array_equal(found(batches)['grey'], 10.0 * rows + 5)
    for i in range(COUNT):
        tmp_path.joinpath(f'{i}.png').unlink()
    np.testing.assert_array_equal(found(keeping)['grey'], 10.0 * rows + 5)
    with pytest.raises(InputError, match='0.png'):
        found(short)
