"""Every method of the room: the same on 1, 2 and 8 devices, and in parts of a batch."""

import functools

import jax
import numpy as np
import optax
import pytest

from big_ssl import config as config_lib
from big_ssl import methods
from big_ssl.data.batches import Batch, Cropped
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.models import resnet
from big_ssl.run_keys import FINETUNING
from big_ssl.tasks import build
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.state import initial_state, layout, with_extra
from tests.helpers import smooth

BATCH, SIZE, STEPS = 16, 16, 4
OPTIMIZER, SCHEDULE = optax.sgd(0.5), optax.constant_schedule(0.5)
SMALL = {
    'byol': {'hidden_size': 32, 'projection_size': 16, 'average': 0.5},
    'vicreg': {'projection_size': 32},
    'simclr': {'projection_size': 16},
    'dcl': {'projection_size': 16},
    'supcon': {'projection_size': 16},
    'distill': {'teacher': 'elsewhere'},
}
TASK = Task(('a', 'b', 'c'), multilabel=False)


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1,))


@pytest.fixture
def teacher(monkeypatch):
    """In place of the weights of another run: a classifier of twice the width."""
    from big_ssl.methods import distill
    from big_ssl.models.networks import ClassifierNetwork

    encoder = resnet.ResNet(18, 0.5, stem='small_images')
    network = ClassifierNetwork(encoder, TASK.outputs)
    images = np.zeros((1, SIZE, SIZE, 3), np.float32)
    weights = dict(network.init(jax.random.key(7), images, train=False))
    weights['params']['classifier']['dense']['kernel'] *= 100  # that has something to say

    class Source:
        about = {'task': {'classes': list(TASK.classes), 'multilabel': False}}
        settings = {'model.name': 'resnet', 'model.width': 0.5, 'model.depth': 18}
        settings |= {'model.stem': 'small_images'}

        def take_all(self, shapes):
            return jax.tree.map(lambda shape, x: np.asarray(x), shapes, weights)

    monkeypatch.setattr(distill, '_source', lambda origin: Source())


def config_of(name, **settings):
    config = config_lib.defaults()
    config.task = methods.load(name).TASK
    config.method.name = name
    for key, value in SMALL.get(name, {}).items():
        config.method[key] = value
    fixed = {'batch_size': BATCH, 'image_size': SIZE, 'model.depth': 18, 'model.width': 0.25}
    config.update_from_flattened_dict({**fixed, 'model.stem': 'small_images', **settings})
    return config_lib.settle(config)


def batch_of(views, mesh):
    rng = np.random.default_rng(0)
    each = {
        'views': np.array(
            [
                [smooth(SIZE, SIZE, seed=views * i + v, noise=30) for v in range(views)]
                for i in range(BATCH)
            ]
        ),
        'examples': np.arange(BATCH, dtype=np.uint32),
        'targets': rng.integers(0, 3, BATCH).astype(np.int32),
    }
    groups = np.arange(BATCH, dtype=np.int32) // 3
    return Batch(mesh_lib.spread(each, mesh), mesh_lib.copy(groups, mesh), Cropped())


@functools.cache
def begun(name):
    """Weights that differ from those at the start in scales and shifts, as NumPy."""
    config, mesh = config_of(name), mesh_lib.make_mesh(jax.devices()[:1])
    method = made(config, mesh)
    state = initial_state(method.network, OPTIMIZER, image_size=SIZE, seed=0, mesh=mesh)
    rng = np.random.default_rng(0)

    def move(path, x):
        if x.ndim > 1:
            return np.asarray(x) * (30 if 'projection' in str(path) and x.std() < 0.02 else 1)
        return np.asarray(x) + rng.uniform(-0.3, 0.3, x.shape).astype(np.float32)

    return jax.tree.map_with_path(
        move, {'params': state.params, 'batch_stats': jax.tree.map(np.abs, state.batch_stats)}
    )


def made(config, mesh):
    module = methods.load(config.method.name)
    task = None if module.LABELS == 'none' else TASK
    return module.make(config, build.make_encoder(config), mesh, STEPS, task)


def trained(name, devices, steps=2, **settings):
    """The state and the metrics after some steps, and its beginning."""
    config, mesh = config_of(name, **settings), mesh_lib.make_mesh(jax.devices()[:devices])
    method = made(config, mesh)
    shard = config.compute.shard
    state = initial_state(
        method.network, OPTIMIZER, image_size=SIZE, seed=0, mesh=mesh, shard=shard
    )
    state = state.replace(**mesh_lib.copy(begun(name), mesh))
    state = jax.device_put(state, layout(state, mesh, shard))
    state = with_extra(state, method.init, mesh, shard)
    before = jax.tree.map(np.array, mesh_lib.fetch(state))
    step = build.make_step(method, OPTIMIZER, SCHEDULE)
    views = 1 if config.task == FINETUNING else config.views
    batch = batch_of(views, mesh)
    for _ in range(steps):
        state, metrics = step(state, batch)
    return before, mesh_lib.fetch(state), mesh_lib.fetch(metrics)


def assert_alike(found, expected):
    """Losses within 1e-4; changes of the weights as far as all of them have moved."""
    (before, one, metrics), (_, other, others) = expected, found
    for key, value in metrics.items():
        np.testing.assert_allclose(others[key], value, rtol=2e-3, atol=1e-5, err_msg=key)
    assert abs(others['loss'] - metrics['loss']) <= 1e-4 * max(1, abs(metrics['loss']))
    for part in ('params', 'extra'):
        a, b, old = (getattr(state, part) for state in (one, other, before))
        moved = optax.tree.norm(jax.tree.map(np.subtract, a, old))
        apart = optax.tree.norm(jax.tree.map(np.subtract, a, b))
        assert apart <= 2e-3 * moved + 1e-6, part


@pytest.mark.parametrize('name', methods.names())
def test_any_number_of_devices_gives_the_same(name, teacher):
    one = trained(name, 1)
    moved = jax.tree.map(np.subtract, one[0].params, one[1].params)
    assert optax.tree.norm(moved) > 1e-3
    for devices in (2, 8):
        assert_alike(trained(name, devices), one)


@pytest.mark.parametrize('name', methods.names())
def test_parts_of_a_batch_give_what_the_whole_gives(name, teacher):
    frozen = {'model.batch_norm': 'frozen'}
    whole, parts = (trained(name, 2, chunks=count, **frozen) for count in (1, 4))
    assert_alike(parts, whole)


def test_a_target_network_in_parts_is_that_on_every_device(teacher):
    assert_alike(trained('byol', 8, **{'compute.shard': 'all'}), trained('byol', 1))


@pytest.mark.parametrize('name', methods.names())
def test_figures_have_labels_and_titles_are_for_people(name, teacher):
    config, mesh = config_of(name), mesh_lib.make_mesh(jax.devices()[:1])
    method = made(config, mesh)
    assert 'loss' in method.figures and method.title
    assert {'encoder', *method.parts} <= begun(name)['params'].keys()


def test_micle_is_simclr_with_pairs_of_a_case():
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    titles = {
        (name, pairing): made(config_of(name, pairing=pairing), mesh).title
        for name in ('simclr', 'byol')
        for pairing in ('augment', 'case')
    }
    assert list(titles.values()) == ['SimCLR', 'MICLe', 'BYOL', 'BYOL, pairs of a case']


def test_the_target_network_of_byol_follows_by_the_published_rule():
    """Section 3.3 of Grill et al. 2020: from 0.5 to 1 by a cosine, over four steps."""
    before, after, _ = trained('byol', 1, steps=1)
    kept = 1 - (1 - 0.5) * (np.cos(np.pi * 0 / STEPS) + 1) / 2
    expected = jax.tree.map(
        lambda old, new: kept * old + (1 - kept) * new, before.extra['params'], after.params
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        after.extra['params'],
        expected,
    )
    later = trained('byol', 1, steps=2)
    kept = 1 - (1 - 0.5) * (np.cos(np.pi * 1 / STEPS) + 1) / 2
    expected = jax.tree.map(
        lambda old, new: kept * old + (1 - kept) * new, after.extra['params'], later[1].params
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
        later[1].extra['params'],
        expected,
    )


def test_distillation_needs_a_teacher():
    config = config_of('distill')
    config.method.teacher = ''
    method = made(config, mesh_lib.make_mesh(jax.devices()[:1]))
    with pytest.raises(InputError, match='needs a teacher, --config.method.teacher=WORKDIR'):
        method.about()


def test_a_teacher_looks_at_what_its_pupil_sees(teacher):
    """A ViT has positions of its images; 224 pixels do not divide into these patches."""
    from big_ssl.methods import distill

    distill._source('').settings.clear()
    distill._source('').settings.update({'model.name': 'vit', 'model.depth': 1, 'model.patch': 3})
    method = made(config_of('distill', image_size=SIZE + 2), mesh_lib.make_mesh(jax.devices()[:1]))
    assert method._teacher.encoder.image_size == SIZE + 2
    method = made(config_of('distill'), mesh_lib.make_mesh(jax.devices()[:1]))
    with pytest.raises(InputError, match='image_size=16 does not divide into patches'):
        _ = method._teacher


def test_a_teacher_does_not_learn(teacher):
    before, after, _ = trained('distill', 2)
    jax.tree.map(np.testing.assert_array_equal, before.extra, after.extra)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            {'method.name': 'simclrr'},
            'method.name=simclrr is none of byol, classify, dcl.* did you mean simclr?',
        ),
        ({'method.name': 'supcon', 'labels.kind': 'multi'}, 'supcon needs one class an image'),
        ({'method.name': 'byol', 'views': 1}, 'views=1 is too few for method.name=byol'),
        ({'method.name': 'vicreg', 'batch_size': 1}, 'batch_size=1 leaves no example'),
        ({'method.name': 'classify'}, 'classify is for task=supervised, not for task=contrastive'),
        ({'method.name': 'byol', 'method.average': 1.5}, r'method.average=1.5 is outside \[0, 1\]'),
        ({'method.name': 'json'}, 'json.* has no KEYS, TASK, LABELS, make'),
    ],
)
def test_what_does_not_go_together_is_one_line(settings, message):
    config = config_lib.defaults()
    with pytest.raises(InputError, match=message):
        config.update_from_flattened_dict(settings)
        config_lib.settle(config)
