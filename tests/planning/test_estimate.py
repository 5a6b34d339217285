import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from big_ssl import config as config_lib
from big_ssl.data import datasets, feed
from big_ssl.data.cases import units_of_images
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError
from big_ssl.models import resnet
from big_ssl.planning import estimate as estimate_lib
from big_ssl.planning.estimate import Estimate, Memory, estimate, largest_batch
from big_ssl.planning.program import training_step
from big_ssl.planning.summary import GIB
from big_ssl.planning.topology import open_slice
from big_ssl.tasks.labelled import open_data
from big_ssl.train.mesh import make_mesh


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1, 1))


def config_of(task='contrastive', **settings):
    config = config_lib.defaults()
    values = {
        'task': task, 'batch_size': 16, 'image_size': 16, 'model.depth': 18, 'model.width': 0.25,
        'model.stem': 'small_images', 'warmup_epochs': 0, **settings,
    }  # fmt: skip
    config.update_from_flattened_dict(values)
    return config_lib.settle(config)


def shapes_of(tree):
    return jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype), x.sharding), tree)


@pytest.mark.parametrize('placement', ['host', 'device'])
def test_the_planned_batch_is_that_of_pretraining(tiny_manifest, placement):
    settings = {'dataset.manifest': tiny_manifest, 'dataset.placement': placement}
    config, mesh = config_of(**settings), make_mesh()
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(('train',))
    table = datasets.open_images(config, manifest, rows)
    sampler = Sampler(units_of_images(manifest, rows), 0, 16, 2)
    real = next(feed.make_feed(config, table, sampler, mesh)(range(1)))
    _, _, planned = training_step(config, mesh, classes=2, images=len(rows))
    assert shapes_of(planned) == shapes_of(real)


@pytest.mark.parametrize('kind', ['single', 'multi'])
def test_the_planned_batch_is_that_of_finetuning(tiny_manifest, kind):
    config = config_of('supervised', **{'dataset.manifest': tiny_manifest, 'labels.kind': kind})
    mesh = make_mesh()
    data = open_data(config)
    examples = data.examples
    training = feed.make_feed(
        config, data.table, examples.sampler, mesh, by_image=examples.by_image
    )
    real = next(training(range(1)))
    _, _, planned = training_step(config, mesh, classes=2, images=0)
    assert shapes_of(planned) == shapes_of(real)


def planned(config, devices=None, **changes):
    devices = devices or jax.devices()
    more = {'available': 2**40, 'classes': 27, 'images': 0} | changes
    return estimate(config, devices, **more)


def test_a_target_network_is_counted_among_the_parameters():
    small = {'method.hidden_size': 32, 'method.projection_size': 16}
    byol = planned(config_of(**{'method.name': 'byol', **small}))
    found = planned(config_of(**{'method.name': 'vicreg', 'method.projection_size': 32,
                                 'method.projection_layers': 1}))  # fmt: skip
    assert byol.memory.parameters > 1.9 * found.memory.parameters
    assert abs(byol.memory.batch - found.memory.batch) < 1024  # paddings


def test_memory_of_the_state_is_that_of_its_arrays():
    found = planned(config_of('supervised', **{'optimizer.name': 'adam'}))
    parameters = 4 * (3 * 9 * 16 + 2 * 9 * 16 * 16 + 3 * 2 * 16)  # stem and first block
    parameters += 4 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32 + 3 * 2 * 32)  # second block
    parameters += 4 * (32 + 1) * 27
    statistics = 4 * (3 * 2 * 16 + 3 * 2 * 32)
    assert found.memory.parameters == parameters + statistics
    assert found.memory.optimizer == 2 * parameters + 3 * 4  # two moments, two counts, the step
    batch = 2 * (16 * 16 * 3 + 4 + 4)  # of one of eight devices
    assert batch <= found.memory.batch <= batch + 1024  # metrics, and addresses of what comes out
    assert found.memory.temporaries > 0 and found.needed == found.memory.total and found.fits


def test_work_and_collectives_of_the_step():
    """Twice the batch is twice the work but for the loss; of what is sent only z depends on it."""
    small, large = (planned(config_of(batch_size=size)) for size in (16, 32))
    assert 2 * small.flops < large.flops < 2.1 * small.flops
    assert small.collectives.count == large.collectives.count
    assert small.collectives.count['all-gather'] == 1
    gathered = [e.collectives.payload['all-gather'] for e in (small, large)]
    assert gathered == [16 * 2 * 128 * 4, 32 * 2 * 128 * 4]


def test_a_batch_that_does_not_divide():
    with pytest.raises(InputError, match='batch_size=12 does not divide over 8 devices'):
        planned(config_of(batch_size=12))


def test_images_on_the_device_need_their_number():
    config = config_of(**{'dataset.placement': 'device'})
    with pytest.raises(InputError, match='--images=N'):
        planned(config)
    few, many = (planned(config, images=images) for images in (96, 1096))
    tile = 32 * 128
    facts = 5 * 4  # sides, start of its unit, image of the unit, patient
    assert many.memory.batch - few.memory.batch == 1000 // 8 * tile + 1000 * facts
    assert tile >= 32 * 32 * 3


def test_more_images_than_a_run_takes_are_not_compiled_for():
    config = config_of(**{'dataset.placement': 'device'})
    few, many = (planned(config, images=images, available=2**20) for images in (8 * 60, 8 * 200))
    assert not few.refusal
    assert '1600 images of 32 x 32 x 3 in 8 parts' in many.refusal
    assert not many.fits and many.needed > 200 * 4096 and many.compile_seconds == 0
    assert largest_batch(None, many, 8) is None, 'no batch is tried'


@pytest.mark.parametrize('task', ['evaluate', 'predict', 'embed'])
def test_there_is_nothing_to_plan_without_training(task):
    with pytest.raises(InputError, match=f'task={task} trains nothing'):
        planned(config_of(task))


MESSAGES = {  # as libtpu 0.0.42 words it
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries '
    '(360.00G) exceeds available HBM (15.75G).': (360, 15.75),
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
    'Used 17.25G of 15.50G hbm. Exceeded hbm capacity by 1.75G.': (17.25, 15.5),
}


@pytest.mark.parametrize('message', MESSAGES)
def test_the_compilers_complaint_in_bytes(message):
    found = estimate_lib._of_message(jax.errors.JaxRuntimeError(message))
    assert found == tuple(int(number * GIB) for number in MESSAGES[message])


def test_another_complaint_is_no_answer():
    with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
        estimate_lib._of_message(jax.errors.JaxRuntimeError('INTERNAL: Used 1G of 2G hbm'))


def made(size, needed, available):
    fits = needed <= available
    memory = Memory(0, 0, 0, needed, 0) if fits else None
    return Estimate(size, needed, available, memory, 0, None, 0.0, 0.0)


def grid(devices, limit):
    """Multiples of `devices` whose share a device has at most five significant bits."""
    return [n * devices for n in range(1, limit) if n >> max(n.bit_length() - 5, 0)
            << max(n.bit_length() - 5, 0) == n]  # fmt: skip


@given(
    st.sampled_from([1, 8, 32, 256]),
    st.integers(0, 10**6),
    st.integers(100, 10**4),
    st.integers(10**3, 3 * 10**6),
    st.integers(1, 200),
)
def test_the_largest_batch_that_fits_is_found(devices, fixed, each, available, asked):
    """Where memory grows evenly: no larger size of the grid fits."""

    def at(size):
        tried.append(size)
        return made(size, fixed + each * size // devices, available)

    tried = []
    first = at(asked * devices)
    found = largest_batch(at, first, devices)
    fitting = [n for n in [*grid(devices, 40_000), asked * devices]
               if fixed + each * n // devices <= available]  # fmt: skip
    assert (found.batch_size if found else None) == max(fitting, default=None)
    assert len(tried) <= 6 and len(set(tried)) == len(tried)


def test_it_searches_on_where_memory_does_not_grow_evenly():
    """The compiler squeezes what nearly fits."""

    def at(size):
        return made(size, min(1000 + 10 * size, 8000 + 2 * size), 10_000)

    found = largest_batch(at, at(64), 8)
    assert found.fits and found.batch_size >= 15 / 16 * 1000


def test_nobody_says_how_much_memory_there_is():
    assert largest_batch(None, made(8, 100, 0), 8) is None


def test_available_memory_of_this_machine_is_shared_by_its_devices():
    with open('/proc/meminfo') as file:
        total = int(file.readline().split()[1]) * 1024
    assert estimate_lib.available_memory(jax.devices()) == pytest.approx(total / 8, rel=0.01)


@pytest.mark.tpu
@pytest.mark.parametrize(
    ('name', 'gibibytes'), [('v2-8', 8), ('v3-32', 16), ('v4-64', 32), ('v5e-16', 16),
                            ('v5p-16', 95.75), ('v6e-8', 32)]
)  # fmt: skip
def test_a_compiler_keeps_a_little_of_the_published_memory(name, gibibytes):
    found = estimate_lib.available_memory(open_slice(name).devices) / GIB
    assert 0.93 * gibibytes < found <= gibibytes


@pytest.mark.tpu
def test_a_step_for_a_slice_of_tpus():
    """Compiled in bfloat16; one all-gather; then for a set whose parts no device can hold."""
    devices = open_slice('v5e-16').devices
    available = estimate_lib.available_memory(devices)
    config = config_of(batch_size=64)
    found = planned(config, devices, available=available)
    here = planned(config, make_mesh(jax.devices()).devices.ravel().tolist())
    assert found.fits and found.memory.parameters == here.memory.parameters
    assert found.flops == here.flops
    assert found.collectives.count['all-gather'] == 1
    assert found.collectives.payload['all-gather'] == 64 * 2 * 128 * 4
    large = planned(config_of(batch_size=2**16, image_size=128), devices, available=available)
    assert not large.fits and large.needed > available > 15 * GIB


@pytest.mark.tpu
def test_images_in_the_memory_of_tpus():
    """They are read where they lie, however many: what a step needs besides does not grow."""
    devices = open_slice('v5e-4').devices
    available = estimate_lib.available_memory(devices)
    config = config_of(batch_size=16, image_size=224, **{'dataset.placement': 'device'})
    few, many = (
        planned(config, devices, available=available, images=4 * images) for images in (1000, 12000)
    )
    assert many.memory.batch - few.memory.batch == pytest.approx(11000 * 448 * 448 * 3, rel=0.01)
    assert many.fits
    assert abs(many.memory.temporaries - few.memory.temporaries) < 2**20
    refused = planned(config, devices, available=available, images=4 * 20000)
    assert not refused.fits and 'needs 11.2 GiB on a device' in refused.refusal
