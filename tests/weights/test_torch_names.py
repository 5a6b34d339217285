"""timm's own networks, with random weights, as the reference."""

import jax
import numpy as np
import pytest

from big_ssl.errors import InputError
from big_ssl.models.resnet import ResNet
from big_ssl.train import init_from
from tests import peers
from tests.weights import networks

torch, timm = peers.torch(), peers.timm()
import safetensors.torch as safetensors_torch  # noqa: E402

LARGE = [pytest.param(depth, marks=pytest.mark.long) for depth in (101, 152, 200)]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def as_torch(images: np.ndarray, normalized: bool = True) -> 'torch.Tensor':
    if normalized:
        images = (images - np.float32(MEAN)) / np.float32(DEVIATION)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def saved(network, path, **metadata) -> str:
    if path.suffix == '.safetensors':
        safetensors_torch.save_file(network.state_dict(), path, metadata=metadata)
    else:
        torch.save(network.state_dict(), path)
    return str(path)


@pytest.mark.parametrize('depth', [18, 34, 50, *LARGE])
def test_features_of_timm(tmp_path, depth):
    network = networks.torch_network(f'resnet{depth}', seed=depth)
    source = init_from.load(saved(network, tmp_path / 'weights.safetensors'))
    encoder = ResNet(**networks.settled(source))
    assert (encoder.depth, encoder.width, encoder.stem) == (depth, 1, 'standard')
    assert (encoder.padding, encoder.normalization) == ('torch', 'imagenet')
    images = networks.images()
    apply = jax.jit(encoder.apply, static_argnames='train')
    found = apply(networks.variables_of(encoder, source), images, train=False)
    with torch.no_grad():
        expected = network(as_torch(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('depth', [18, 50])
def test_training_mode_of_timm_with_its_running_statistics(tmp_path, depth):
    """torch's running variance is that of n - 1, ours of n: a known factor a layer."""
    network = networks.torch_network(f'resnet{depth}', seed=1)
    source = init_from.load(saved(network, tmp_path / 'weights.safetensors'))
    encoder = ResNet(**networks.settled(source))
    images = networks.images(count=8)
    variables = networks.variables_of(encoder, source)
    found, updates = encoder.apply(variables, images, train=True, mutable=['batch_stats'])
    counts = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _, inputs, __, name=name: counts.update({name: inputs[0][:, 0].numel()})
            )
    before = {key: value.numpy().copy() for key, value in network.state_dict().items()}
    with torch.no_grad():
        expected = network.train()(as_torch(images)).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    after = network.state_dict()
    for path, ours in jax.tree_util.tree_leaves_with_path(updates['batch_stats']):
        *layers, tensor = (key.key for key in path)
        name = source.match.name_of(('batch_stats', 'encoder', *layers, tensor))
        theirs = after[name].numpy()
        if tensor == 'var':
            n = counts[name.removesuffix('.running_var')]
            theirs = before[name] * 0.9 + (theirs - before[name] * 0.9) * (n - 1) / n
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4, err_msg=name)


def test_files_of_pytorch_and_what_scripts_wrap_around_them(tmp_path):
    network = networks.torch_network('resnet18')
    state = network.state_dict()
    backbone = torch.nn.Sequential(*network.children())
    kinds = {
        'plain': state,
        'parallel': {'epoch': 3, 'state_dict': {f'module.{k}': v for k, v in state.items()}},
        'cut': {f'backbone.{k}': v for k, v in backbone.state_dict().items()},
        'half': {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    }
    encoder = ResNet(18, normalization='imagenet')
    for kind, content in kinds.items():
        path = tmp_path / f'{kind}.pth'
        torch.save(content, path)
        source = init_from.load(str(path))
        found = networks.variables_of(encoder, source)['params']['stage2']['block1']['conv1']
        expected = state['layer2.0.conv1.weight'].numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(found['kernel'], expected, atol=1e-3 if kind == 'half' else 0)
        assert source.settings['model.depth'] == 18, kind


def test_of_several_networks_one_is_to_be_named(tmp_path):
    one, other = (networks.torch_network('resnet18', seed).state_dict() for seed in (0, 1))
    both = {f'module.encoder_q.{k}': v for k, v in one.items()}
    both |= {f'module.encoder_k.{k}': v for k, v in other.items()}
    path = str(tmp_path / 'moco.pth')
    torch.save({'state_dict': both}, path)
    with pytest.raises(InputError, match=r"prefixes 'module.encoder_k.', 'module.encoder_q.'"):
        init_from.load(path)
    source = init_from.load(path, 'module.encoder_q.')
    found = networks.variables_of(ResNet(18), source)
    np.testing.assert_array_equal(found['params']['bn_stem']['scale'], one['bn1.weight'].numpy())


@pytest.mark.parametrize(
    'name, problem',
    [
        (
            'wide_resnet50_2',
            r'layer1.0.bn1.bias is \(128,\), here encoder/stage1/block1/bn1/bias \(64,\)',
        ),
        ('resnext50_32x4d', r'layer1.0.bn1.bias is \(128,\)'),
        ('seresnet50', r'layer1.0.se.fc1.bias \(16,\) has no place here; layer1.0.se.fc1.weight'),
        ('resnet50d', 'conv1.weight is not there'),
    ],
)
def test_relatives_that_are_no_resnet_are_refused(tmp_path, name, problem):
    network = networks.torch_network(name)
    path = saved(network, tmp_path / 'weights.safetensors')
    with pytest.raises(InputError, match=problem) as caught:
        networks.variables_of(ResNet(50), init_from.load(path))
    assert '\n' not in str(caught.value)
