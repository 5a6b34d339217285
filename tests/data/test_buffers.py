import gc

import jax
import numpy as np
import pytest

from big_ssl.data.buffers import Buffers, UnderWay, aligned
from big_ssl.train import mesh as mesh_lib


def address(array):
    return array.__array_interface__['data'][0]


def test_memory_that_nothing_refers_to_is_used_again():
    buffers = Buffers((3, 5))
    first = buffers.take()
    assert first.shape == (3, 5) and first.dtype == np.uint8 and first.flags.writeable
    place = address(first)
    assert place % 64 == 0
    second = buffers.take()
    assert not np.shares_memory(first, second)
    del first
    assert address(buffers.take()) == place


@pytest.mark.parametrize(
    'part',
    [
        lambda array: array[2:],
        lambda array: array.reshape(-1)[7:],
        lambda array: array.T[1:3][:, ::2],
        lambda array: array[1:].view(np.int8),
        memoryview,
    ],
)
def test_a_part_of_an_array_keeps_its_memory(part):
    buffers = Buffers((4, 6))
    held = part(buffers.take())
    gc.collect()
    others = [buffers.take() for _ in range(3)]
    assert not any(np.shares_memory(np.asarray(held), other) for other in others)


@pytest.mark.parametrize('count', [1, 8])
def test_what_devices_hold_stays(count):
    """However they take it: a CPU may read the array's own memory."""
    buffers = Buffers((8, 1000))
    mesh = mesh_lib.make_mesh(jax.devices()[:count])
    on_devices = []
    for number in range(20):
        array = buffers.take()
        array[:] = number
        on_devices.append(mesh_lib.spread(array, mesh))
        del array
        if number % 3 == 2:
            del on_devices[0]
    kept = [int(np.unique(each).item()) for each in on_devices]
    assert kept == list(range(6, 20))


def test_what_tensorflow_holds_stays():
    """It takes the array's own memory, and so do arrays that are made of its elements."""
    import tensorflow as tf

    under_way = UnderWay((4, 16), most=9)

    def made(number):
        under_way[under_way.begin()][:] = number
        return under_way.finish(int(number))

    dataset = tf.data.Dataset.range(60).map(lambda n: tf.numpy_function(made, [n], tf.uint8))
    elements, places = [], set()
    for element in dataset.as_numpy_iterator():
        elements.append(element)
        places.add(address(element))
        if len(elements) > 9:
            del elements[0]
    assert [int(np.unique(each).item()) for each in elements] == list(range(51, 60))
    assert len(places) < 30  # the same memory served again


def test_batches_that_nobody_finishes_are_forgotten():
    under_way = UnderWay((2, 2), most=16)
    left = [under_way.begin() for _ in range(5)]
    for _ in range(100):
        number = under_way.begin()
        under_way[number][:] = number
        assert under_way.finish(number).min() == number
    for _ in range(20):
        under_way.begin()
    with pytest.raises(KeyError):
        under_way[left[-1]]


@pytest.mark.parametrize('shape', [(3,), (5, 32, 128)])
def test_a_device_on_the_cpu_takes_aligned_memory_as_it_is(shape):
    memory = aligned(shape)
    assert memory.shape == shape and memory.dtype == np.uint8 and not memory.any()
    array = jax.device_put(memory, jax.devices()[0]).block_until_ready()
    assert array.unsafe_buffer_pointer() == address(memory)
