"""timm's BiT, which reads the published files by its own code, as the reference."""

import json

import numpy as np
import pytest

from big_ssl.errors import InputError
from big_ssl.models.bit import BiT
from big_ssl.train import init_from
from tests import peers
from tests.weights import networks

torch, timm = peers.torch(), peers.timm()
import safetensors.torch as safetensors_torch  # noqa: E402


def published(blocks: tuple[int, ...], width: int, classes: int, seed: int = 0) -> dict:
    """Arrays by the names of BiT's files."""
    rng, arrays = np.random.default_rng(seed), {}

    def kernel(name, *shape):
        arrays[f'resnet/{name}/standardized_conv2d/kernel'] = rng.normal(size=shape)

    def norm(name, channels):
        arrays[f'resnet/{name}/gamma'] = rng.uniform(0.5, 1.5, channels)
        arrays[f'resnet/{name}/beta'] = rng.uniform(-0.3, 0.3, channels)

    kernel('root_block', 7, 7, 3, 64 * width)
    size = 64 * width
    for stage, count in enumerate(blocks):
        out, mid = 256 * width * 2**stage, 64 * width * 2**stage
        for number in range(1, count + 1):
            unit = f'block{stage + 1}/unit{number:02d}'
            if number == 1:
                kernel(f'{unit}/a/proj', 1, 1, size, out)
            shapes = {'a': (1, 1, size, mid), 'b': (3, 3, mid, mid), 'c': (1, 1, mid, out)}
            for letter, shape in shapes.items():
                norm(f'{unit}/{letter}/group_norm', shape[2])
                kernel(f'{unit}/{letter}', *shape)
            size = out
    norm('group_norm', size)
    arrays['resnet/head/conv2d/kernel'] = rng.normal(size=(1, 1, size, classes))
    arrays['resnet/head/conv2d/bias'] = rng.normal(size=classes)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


NETWORKS = {
    'resnetv2_50x1_bit': ((3, 4, 6, 3), 1, 50),
    'resnetv2_101x1_bit': ((3, 4, 23, 3), 1, 101),
    'resnetv2_50x3_bit': ((3, 4, 6, 3), 3, 50),
}


def test_an_export_of_an_earlier_version(tmp_path):
    """It said a padding of a network that has none to choose."""
    said = {'model.padding': 'torch', 'init_normalization': 'none'}
    network, path = (
        timm.create_model('resnetv2_50x1_bit', num_classes=0),
        tmp_path / 'a.safetensors',
    )
    safetensors_torch.save_file(network.state_dict(), path, metadata={'big_ssl': json.dumps(said)})
    source = init_from.load(str(path))
    assert source.settings['init_normalization'] == 'none' and not source.guessed
    assert 'model.padding' not in source.settings


@pytest.mark.parametrize(
    'name',
    [
        'resnetv2_50x1_bit',
        pytest.param('resnetv2_101x1_bit', marks=pytest.mark.long),
        pytest.param('resnetv2_50x3_bit', marks=pytest.mark.long),
    ],
)
def test_features_of_bit(tmp_path, name):
    blocks, width, depth = NETWORKS[name]
    path = str(tmp_path / 'BiT-M.npz')
    np.savez(path, **published(blocks, width, classes=10))
    network = timm.create_model(name, num_classes=10)
    network.load_pretrained(path)
    source = init_from.load(path)
    assert source.settings == {
        'model.name': 'bit', 'model.depth': depth, 'model.width': width,
        'init_normalization': 'symmetric',
    }  # fmt: skip
    encoder = BiT(depth, width)
    images = networks.images(size=64)
    found = encoder.apply(networks.variables_of(encoder, source), images, train=False)
    scaled = torch.from_numpy((2 * images - 1).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        features = network.eval().forward_features(scaled)
        expected = network.forward_head(features, pre_logits=True).numpy()
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=2e-4, atol=2e-4)


def test_a_unit_too_many_is_refused(tmp_path):
    path = str(tmp_path / 'odd.npz')
    np.savez(path, **published((3, 4, 7, 3), 1, classes=2))
    with pytest.raises(InputError, match=r'stages of \(3, 4, 7, 3\) bottleneck blocks'):
        init_from.load(path)
