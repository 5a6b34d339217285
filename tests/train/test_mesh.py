import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from big_ssl.errors import InputError
from big_ssl.train import mesh as mesh_lib


def positions(array: jax.Array) -> list[list[float]]:
    """What each device holds, by device number."""
    shards = sorted(array.addressable_shards, key=lambda shard: shard.device.id)
    return [np.asarray(shard.data).tolist() for shard in shards]


def test_the_mesh_holds_every_device_process_by_process():
    mesh = mesh_lib.make_mesh()
    assert mesh.axis_names == ('data',)
    assert mesh.devices.shape == (8,)
    order = [(device.process_index, device.id) for device in mesh.devices]
    assert order == sorted(order)
    assert {device.id for device in mesh.devices} == set(range(8))


def test_devices_named_across_processes_are_put_in_order(monkeypatch):
    """`local_part` takes for granted that a process's examples are one piece of the batch."""

    class Device:
        def __init__(self, process_index: int, number: int) -> None:
            self.process_index, self.id = process_index, number

    interleaved = [Device(number % 2, number) for number in range(8)]
    seen = []
    monkeypatch.setattr(jax, 'devices', lambda: interleaved)
    monkeypatch.setattr(mesh_lib, 'Mesh', lambda devices, *_, **__: seen.extend(devices))
    mesh_lib.make_mesh()
    assert [device.process_index for device in seen] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_spread_cuts_the_batch_in_order():
    batch = {'x': np.arange(16.0).reshape(8, 2), 'y': np.arange(16)}
    spread = mesh_lib.spread(batch, mesh_lib.make_mesh())
    assert positions(spread['x']) == [[[2.0 * i, 2.0 * i + 1]] for i in range(8)]
    assert positions(spread['y']) == [[2 * i, 2 * i + 1] for i in range(8)]
    np.testing.assert_array_equal(spread['x'], batch['x'])


def test_copy_is_whole_everywhere_and_fetch_brings_it_back():
    batch = {'x': np.arange(6.0).reshape(3, 2), 'scalar': np.float32(2.5)}
    copied = mesh_lib.copy(batch, mesh_lib.make_mesh())
    assert positions(copied['x']) == [batch['x'].tolist()] * 8
    fetched = mesh_lib.fetch(copied)
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(fetched))
    np.testing.assert_array_equal(fetched['x'], batch['x'])
    assert fetched['scalar'] == 2.5


def test_sub_mesh():
    mesh = Mesh(np.array(jax.devices()[:2]), ('data',))
    spread = mesh_lib.spread(np.arange(4), mesh)
    assert positions(spread) == [[0, 1], [2, 3]]


@pytest.mark.parametrize('batch_size', [8, 16, 64])
@pytest.mark.parametrize('processes', [1, 2, 4])
def test_the_parts_of_all_processes_make_the_batch(monkeypatch, batch_size, processes):
    monkeypatch.setattr(jax, 'process_count', lambda: processes)
    parts = []
    for index in range(processes):
        monkeypatch.setattr(jax, 'process_index', lambda index=index: index)
        parts.append(np.arange(batch_size)[mesh_lib.local_part(batch_size)])
    assert {len(part) for part in parts} == {batch_size // processes}
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(batch_size))


@pytest.mark.parametrize('batch_size', [1, 12, 63])
def test_a_batch_that_does_not_divide(batch_size):
    with pytest.raises(InputError, match=f'batch_size={batch_size} .* 8 devices'):
        mesh_lib.local_part(batch_size)


@pytest.mark.parametrize(
    ('shape', 'axis'),
    [((), None), ((7,), None), ((16,), 0), ((3, 3, 8, 64), 3), ((3, 3, 64, 64), 3),
     ((1, 1, 64, 16), 2), ((7, 12), None), ((0, 8), 1)],
)  # fmt: skip
def test_the_largest_axis_that_divides_is_cut(shape, axis):
    sharding = mesh_lib.cut(mesh_lib.make_mesh(), shape)
    part = list(shape)
    if axis is not None:
        part[axis] //= 8
    assert sharding.shard_shape(shape) == tuple(part)


def test_parts_come_back_whole():
    whole = np.arange(48.0).reshape(3, 16)
    mesh = mesh_lib.make_mesh()
    parts = jax.device_put(whole, mesh_lib.cut(mesh, whole.shape))
    assert parts.addressable_shards[0].data.shape == (3, 2)
    np.testing.assert_array_equal(mesh_lib.fetch({'x': parts})['x'], whole)
