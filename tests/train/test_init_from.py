import functools
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.config import defaults
from big_ssl.errors import InputError
from big_ssl.models import resnet
from big_ssl.models.heads import ProjectionHead
from big_ssl.models.networks import ClassifierNetwork, ContrastiveNetwork
from big_ssl.train import init_from
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.mesh import make_mesh
from big_ssl.train.state import TrainState, initial_state


@pytest.fixture(autouse=True)
def one_block(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1,))


def encoder(width: float = 0.25) -> resnet.ResNet:
    return resnet.ResNet(depth=18, width=width, stem='small_images')


def contrastive(width: float = 0.25, projection: int = 8) -> ContrastiveNetwork:
    return ContrastiveNetwork(encoder(width), ProjectionHead(2, projection))


@functools.cache
def fresh_state(network) -> TrainState:
    return initial_state(
        network, optax.sgd(0.1, momentum=0.9), image_size=8, seed=0, mesh=make_mesh()
    )


def state_of(network, number: int) -> TrainState:
    """As if trained: another one for each number."""
    state = fresh_state(network)
    moved = jax.tree.map(lambda x: jax.device_put(np.asarray(x) + number, x.sharding), state)
    return moved.replace(step=state.step)


def config_of(**changes) -> ConfigDict:
    config = defaults()
    with config.unlocked():
        config.update_from_flattened_dict(
            {'model.depth': 18, 'model.width': 0.25, 'model.stem': 'small_images', **changes}
        )
    config_lib.close(config)
    return config


def save(folder, state: TrainState, step: int = 5, score: float | None = None) -> None:
    state = state.replace(step=jax.device_put(jnp.int32(step), state.step.sharding))
    about = {'config': config_of().to_dict(), 'data': ''}
    checkpoints = Checkpoints(epath.Path(folder), keep=9)
    checkpoints.save(state, about, score)
    checkpoints.wait()


def test_settings_of_a_run_of_an_earlier_version(tmp_path):
    """Keys that did not exist then are there, and one that no longer exists is not."""
    earlier = config_of().to_dict()
    del earlier['model']['name'], earlier['init_normalization']
    del earlier['crop']['min_object_covered']
    about = {'config': {**earlier, 'bootstrap_replicates': 1000}, 'data': ''}
    checkpoints = Checkpoints(epath.Path(tmp_path), keep=9)
    checkpoints.save(state_of(contrastive(), 1), about)
    checkpoints.wait()
    source = init_from.load(str(tmp_path))
    assert source.settings == config_lib.flat(json.loads(json.dumps(config_of().to_dict())))
    init_from.check_settings(source, config_of(), config_lib.OF_IMAGES)


def assert_same(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def differs(found, other) -> bool:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(other))
    return any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


def test_a_classifier_takes_the_encoder_and_nothing_else(tmp_path):
    trained, fresh = state_of(contrastive(), 1), state_of(ClassifierNetwork(encoder(), 3), 2)
    save(tmp_path, trained)
    state, _ = init_from.apply(fresh, init_from.load(str(tmp_path)), ('encoder',))
    for tree in ('params', 'batch_stats'):
        assert_same(getattr(state, tree)['encoder'], getattr(trained, tree)['encoder'])
        assert differs(getattr(state, tree)['encoder'], getattr(fresh, tree)['encoder'])
    assert_same(state.params['classifier'], fresh.params['classifier'])
    assert state.params.keys() == fresh.params.keys()
    assert_same(state.opt_state, fresh.opt_state)
    assert int(state.step) == 0
    for leaf, old in zip(jax.tree.leaves(state), jax.tree.leaves(fresh)):
        assert leaf.sharding == old.sharding and leaf.dtype == old.dtype


def test_pretraining_takes_the_projection_where_it_fits(tmp_path, caplog):
    trained, fresh = state_of(contrastive(), 1), state_of(contrastive(), 2)
    save(tmp_path, trained)
    parts = ('encoder', 'projection')
    state, _ = init_from.apply(fresh, init_from.load(str(tmp_path)), parts)
    assert_same(state.params, trained.params)
    assert_same(state.batch_stats, trained.batch_stats)
    assert not [record for record in caplog.records if record.name.startswith('big_ssl.train.init')]


def test_a_projection_of_another_size_starts_afresh_and_a_line_says_so(tmp_path, caplog):
    caplog.set_level(logging.WARNING, 'big_ssl')
    trained, fresh = state_of(contrastive(), 1), state_of(contrastive(projection=16), 2)
    save(tmp_path, trained)
    state, _ = init_from.apply(fresh, init_from.load(str(tmp_path)), ('encoder', 'projection'))
    assert_same(state.params['encoder'], trained.params['encoder'])
    assert_same(state.params['projection'], fresh.params['projection'])
    assert_same(state.batch_stats['projection'], fresh.batch_stats['projection'])
    assert 'projection starts afresh' in caplog.text


def test_pretraining_from_a_classifier_has_no_projection_to_take(tmp_path, caplog):
    caplog.set_level(logging.WARNING, 'big_ssl')
    trained, fresh = state_of(ClassifierNetwork(encoder(), 3), 1), state_of(contrastive(), 2)
    save(tmp_path, trained)
    state, _ = init_from.apply(fresh, init_from.load(str(tmp_path)), ('encoder', 'projection'))
    assert_same(state.params['encoder'], trained.params['encoder'])
    assert_same(state.params['projection'], fresh.params['projection'])
    assert 'projection starts afresh' in caplog.text


def test_another_architecture_is_an_input_error(tmp_path):
    save(tmp_path, state_of(contrastive(), 1))
    fresh = state_of(contrastive(width=0.5), 2)
    with pytest.raises(
        InputError, match=r'another architecture: params/encoder/.* is \(.*, here encoder/.* \('
    ):
        init_from.apply(fresh, init_from.load(str(tmp_path)), ('encoder',))


@pytest.mark.parametrize(
    ('changes', 'flags'),
    [
        ({'model.depth': 34}, '--config.model.depth=18'),
        ({'model.width': 1.0}, '--config.model.width=0.25'),
        ({'model.padding': 'same'}, '--config.model.padding=torch'),
        (
            {'model.depth': 50, 'model.stem': 'standard'},
            '--config.model.depth=18 --config.model.stem=small_images',
        ),
    ],
)
def test_other_settings_are_an_input_error_with_the_flags_to_set(tmp_path, changes, flags):
    """Padding changes no shape, so only the settings can tell."""
    save(tmp_path, state_of(contrastive(), 1))
    source = init_from.load(str(tmp_path))
    init_from.check_settings(source, config_of())
    with pytest.raises(InputError) as caught:
        init_from.check_settings(source, config_of(**changes))
    assert str(caught.value).endswith(f'to use it: {flags}')


def test_weights_are_those_best_on_validation_else_the_newest(tmp_path):
    states = {step: state_of(contrastive(), step) for step in (1, 2, 3)}
    for folder, scores in (('judged', (0.5, 0.9, 0.7)), ('not', (None, None, None))):
        for (step, state), score in zip(states.items(), scores):
            save(tmp_path / folder, state, step, score)
        arrays = init_from.load(str(tmp_path / folder)).arrays()
        state = states[2 if folder == 'judged' else 3]
        chosen = traverse_util.unflatten_dict(arrays, sep='/')
        assert_same(chosen['params'], state.params)


def test_no_checkpoint_to_start_from(tmp_path):
    for path in (tmp_path, tmp_path / 'nowhere'):
        with pytest.raises(InputError, match='no checkpoints there'):
            init_from.load(str(path))
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(InputError, match='no finished checkpoint'):
        init_from.load(str(tmp_path))


def test_one_checkpoint_of_a_run_can_be_named(tmp_path):
    for step, score in ((1, 0.5), (2, 0.9)):
        save(tmp_path, state_of(contrastive(), step), step, score)
    source = init_from.load(str(tmp_path / 'checkpoints/1'))
    assert source.step == 1
    chosen = traverse_util.unflatten_dict(source.arrays(), sep='/')
    assert_same(chosen['params'], state_of(contrastive(), 1).params)
