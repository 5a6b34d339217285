import jax
import numpy as np
import pytest

from big_ssl.data.buffers import aligned


def address(array):
    return array.__array_interface__['data'][0]


@pytest.mark.parametrize('shape', [(3,), (5, 32, 128)])
def test_a_device_on_the_cpu_takes_aligned_memory_as_it_is(shape):
    memory = aligned(shape)
    assert memory.shape == shape and memory.dtype == np.uint8 and not memory.any()
    array = jax.device_put(memory, jax.devices()[0]).block_until_ready()
    assert array.unsafe_buffer_pointer() == address(memory)
