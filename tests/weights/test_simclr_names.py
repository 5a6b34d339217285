"""SimCLR's network in TensorFlow, written by the test from the published code, as the reference."""

import logging

import numpy as np
import pytest

from big_ssl.errors import InputError
from big_ssl.models.resnet import ResNet
from big_ssl.train import init_from
from tests.weights import networks

pytest.importorskip('tensorflow')
from tests.weights import simclr_network  # noqa: E402

R50 = (3, 4, 6, 3)


@pytest.fixture(scope='module')
def network():
    return simclr_network.Network(R50, width=1)


@pytest.mark.parametrize('size', [64, 75])
@pytest.mark.parametrize('kind', ['tf1', 'tf2'])
def test_features_of_simclr(tmp_path, network, kind, size):
    """An even and an odd size: only the max-pool pads as TensorFlow does."""
    if kind == 'tf1':
        origin = simclr_network.save_tf1(network.with_head(3), tmp_path / 'model.ckpt-250228')
    else:
        origin = simclr_network.save_tf2(network.variables, tmp_path / 'saved')
    source = init_from.load(origin)
    assert source.settings == {
        'model.name': 'resnet', 'model.depth': 50, 'model.width': 1, 'model.stem': 'standard',
        'model.padding': 'simclr', 'init_normalization': 'none',
    }  # fmt: skip
    encoder = ResNet(**networks.settled(source))
    images = networks.images(size=size)
    found = encoder.apply(networks.variables_of(encoder, source), images, train=False)
    np.testing.assert_allclose(found, network(images), rtol=1e-4, atol=1e-4)


def test_another_rule_of_padding_would_show(network, tmp_path):
    source = init_from.load(simclr_network.save_tf1(network.variables, tmp_path / 'model.ckpt'))
    images = networks.images()
    for padding in ('torch', 'same'):
        encoder = ResNet(**{**networks.settled(source), 'padding': padding})
        found = encoder.apply(networks.variables_of(encoder, source), images, train=False)
        assert np.abs(found - network(images)).max() > 0.05


@pytest.mark.long
def test_wider_deeper_and_in_a_folder(tmp_path):
    network = simclr_network.Network((3, 8, 36, 3), width=2)
    simclr_network.save_tf1(network.variables, tmp_path / 'model.ckpt-1')
    for origin in (tmp_path, tmp_path / 'model.ckpt-1', tmp_path / 'model.ckpt-1.index'):
        settings = init_from.load(str(origin)).settings
        assert (settings['model.depth'], settings['model.width']) == (152, 2)


def test_selective_kernels_and_basic_blocks_are_refused(tmp_path, network):
    """A network of SimCLR v2 with sk1 has more convolutions than any without."""
    more = {f'base_model/conv2d_{53 + i}/kernel': np.zeros((1, 1, 4, 4), 'f') for i in range(3)}
    origin = simclr_network.save_tf1(network.variables | more, tmp_path / 'sk1.ckpt')
    with pytest.raises(InputError, match=r'56 convolutions and 53 norm.*selective kernels'):
        init_from.load(origin)


def test_the_moving_average_is_there_by_its_prefix(tmp_path, network):
    average = simclr_network.Network(R50, width=1, seed=1).variables
    both = network.variables | {f'ema_model/{name}': value for name, value in average.items()}
    origin = simclr_network.save_tf1(both, tmp_path / 'model.ckpt')
    for prefix, expected in ((None, network.variables), ('ema_model/', average)):
        found = networks.variables_of(ResNet(50), init_from.load(origin, prefix))
        np.testing.assert_array_equal(
            found['params']['conv_stem']['kernel'], expected['base_model/conv2d/kernel']
        )


def test_a_damaged_checkpoint_is_one_line(tmp_path, network, caplog):
    caplog.set_level(logging.ERROR)
    origin = simclr_network.save_tf1(network.variables, tmp_path / 'model.ckpt')
    data = next(tmp_path.glob('*.data-*'))
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match='cannot be read') as caught:
        init_from.load(origin)
    assert '\n' not in str(caught.value)
    data.write_bytes(whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:])
    with pytest.raises(InputError, match='cannot be read'):
        init_from.load(origin)
