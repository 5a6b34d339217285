import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from big_ssl.models.resnet.network import (
    STAGE_SIZES,
    BasicBlock,
    BottleneckBlock,
    ResNet,
    feature_size,
    max_pool,
)

# torchvision's published counts, classifier of 1,000 classes included.
TORCHVISION = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


def shapes(model):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('depth', TORCHVISION)
def test_parameter_counts_of_torchvision(depth):
    classifier = (feature_size(depth) + 1) * 1000
    assert count(shapes(ResNet(depth))['params']) + classifier == TORCHVISION[depth]


@pytest.mark.parametrize(
    'depth, width, millions',
    [(50, 1, 24), (50, 2, 94), (101, 1, 43), (101, 2, 170), (152, 1, 58), (152, 2, 233)],
)
def test_parameter_counts_of_simclr_v2(depth, width, millions):
    """Table 1 of arXiv:2006.10029; 233 million needs the batch statistics to be counted too."""
    assert round(count(shapes(ResNet(depth, width))) / 1e6) == millions


def test_parameter_count_of_simclr_at_four_times_the_width():
    """375 million in arXiv:2002.05709, without batch statistics."""
    assert round(count(shapes(ResNet(50, 4))['params']) / 1e6) == 375


@pytest.mark.parametrize('depth', STAGE_SIZES)
@pytest.mark.parametrize('width', [0.25, 1, 2])
def test_feature_size(depth, width):
    model = ResNet(depth, width)
    images = jax.ShapeDtypeStruct((2, 64, 64, 1), jnp.float32)
    out, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, False), images)
    assert feature_size(depth, width) == (512 if depth < 50 else 2048) * width
    assert out.shape == (2, feature_size(depth, width))


@pytest.mark.parametrize('wrong', [{'depth': 19}, {'stem': 'cifar'}, {'padding': 'valid'}])
def test_unknown_choices_are_listed(wrong):
    choice = {'depth': '18, 34, 50', 'stem': 'small_images', 'padding': 'torch, same'}
    with pytest.raises(ValueError, match=choice[next(iter(wrong))]):
        ResNet(**wrong)


def randomise(variables, seed=0):
    """Every parameter and statistic away from 0 and 1, activations of the order of one."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == 'kernel':
            return rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        low, high = (0.5, 1.5) if path[-1].key in ('scale', 'var') else (-0.5, 0.5)
        return rng.uniform(low, high, leaf.shape)

    drawn = jax.tree.map_with_path(draw, variables)
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), drawn)


def pads(size, kernel, stride, rule):
    if rule == 'torch':
        return kernel // 2, kernel // 2
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def numpy_conv(x, kernel, stride, rule):
    """Cross-correlation in float64, tap by tap."""
    size = kernel.shape[0]
    x = np.pad(x, [(0, 0), *(pads(n, size, stride, rule) for n in x.shape[1:3]), (0, 0)])
    height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            rows, columns = (
                slice(i, i + stride * height, stride),
                slice(j, j + stride * width, stride),
            )
            out += x[:, rows, columns][:, :height, :width] @ kernel[i, j].astype(np.float64)
    return out


def tensorflow_conv(x, kernel, stride, rule):
    tf = pytest.importorskip('tensorflow')
    half = kernel.shape[0] // 2
    explicit = [[0, 0], [half, half], [half, half], [0, 0]]
    padding = explicit if rule == 'torch' else 'SAME'
    return tf.nn.conv2d(x.astype(np.float32), kernel, stride, padding).numpy().astype(np.float64)


def tensorflow_pool(x, rule):
    tf = pytest.importorskip('tensorflow')
    padding = [[0, 0], [1, 1], [1, 1], [0, 0]] if rule == 'torch' else 'SAME'
    return tf.nn.max_pool2d(x, 3, 2, padding)


class Reference:
    """The network in evaluation mode, layer by layer, in float64."""

    def __init__(self, variables, padding, conv=numpy_conv):
        self.params, self.stats = variables['params'], variables['batch_stats']
        self.padding, self.conv2d = padding, conv

    def at(self, *path):
        descend = functools.partial(functools.reduce, lambda tree, name: tree[name], path)
        return Reference(
            {'params': descend(self.params), 'batch_stats': descend(self.stats)},
            self.padding,
            self.conv2d,
        )

    def conv_bn(self, x, conv, bn, stride=1):
        x = self.conv2d(x, self.params[conv]['kernel'], stride, self.padding)
        scale, shift = self.params[bn]['scale'], self.params[bn]['bias']
        return (x - self.stats[bn]['mean']) / np.sqrt(self.stats[bn]['var'] + 1e-5) * scale + shift

    def block(self, x, stride):
        bottleneck = 'conv3' in self.params
        y = np.maximum(self.conv_bn(x, 'conv1', 'bn1', 1 if bottleneck else stride), 0)
        y = self.conv_bn(y, 'conv2', 'bn2', stride if bottleneck else 1)
        if bottleneck:
            y = self.conv_bn(np.maximum(y, 0), 'conv3', 'bn3')
        if 'conv_shortcut' in self.params:
            x = self.conv_bn(x, 'conv_shortcut', 'bn_shortcut', stride)
        return np.maximum(x + y, 0)

    def features(self, x, stem):
        x = np.maximum(self.conv_bn(x, 'conv_stem', 'bn_stem', 2 if stem == 'standard' else 1), 0)
        if stem == 'standard':
            x = tensorflow_pool(x, self.padding).numpy()
        for stage in (1, 2, 3, 4):
            for block in range(1, len(self.params[f'stage{stage}']) + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                x = self.at(f'stage{stage}', f'block{block}').block(x, stride)
        return x.mean(axis=(1, 2))


@pytest.mark.parametrize('block', [BasicBlock, BottleneckBlock])
@pytest.mark.parametrize('conv', [numpy_conv, tensorflow_conv])
@pytest.mark.parametrize('padding', ['torch', 'same'])
def test_block_equals_reference(block, conv, padding):
    for size in (7, 8):
        x = np.random.default_rng(size).normal(size=(2, size, size, 6)).astype(np.float32)
        model = block(channels=4, stride=2, padding=padding, dtype=jnp.float32)
        variables = randomise(model.init(jax.random.key(0), x, False))
        out = jax.jit(model.apply, static_argnums=2)(variables, x, False)
        expected = Reference(variables, padding, conv).block(x, 2)
        np.testing.assert_allclose(out, expected, atol=2e-5)


def test_the_paddings_differ_where_tensorflow_says():
    """On even sizes 'same' starts one pixel later than 'torch'; on odd sizes they agree."""
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 2)).astype(np.float32)
    assert not np.allclose(max_pool(x, 'torch'), max_pool(x, 'same'))
    np.testing.assert_array_equal(max_pool(x[:, 1:, 1:], 'torch'), max_pool(x[:, 1:, 1:], 'same'))


@pytest.mark.parametrize(
    'depth, stem, padding, size',
    [
        (18, 'standard', 'torch', 40),
        (50, 'standard', 'same', 40),
        (18, 'small_images', 'torch', 17),
    ],
)
def test_network_equals_reference(depth, stem, padding, size):
    model = ResNet(depth, 1 / 8, stem, padding)
    x = np.random.default_rng(1).uniform(size=(2, size, size, 3)).astype(np.float32)
    variables = randomise(jax.eval_shape(lambda: model.init(jax.random.key(0), x, False)))
    out = jax.jit(model.apply, static_argnums=2)(variables, x, False)
    expected = Reference(variables, padding).features(x, stem)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('padding', ['torch', 'same'])
@pytest.mark.parametrize('size', [(6, 9), (9, 8), (3, 2), (1, 1)])
def test_max_pool_and_its_gradient_equal_tensorflow(padding, size):
    tf = pytest.importorskip('tensorflow')
    x = np.random.default_rng(2).normal(size=(2, *size, 3)).astype(np.float32) - 3
    with tf.GradientTape() as tape:
        variable = tf.Variable(x)
        expected = tensorflow_pool(variable, padding)
        loss = tf.reduce_sum(expected**3)
    np.testing.assert_array_equal(max_pool(x, padding), expected.numpy())
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, padding) ** 3))(x)
    np.testing.assert_allclose(gradient, tape.gradient(loss, variable).numpy(), rtol=1e-6)


@pytest.mark.parametrize('block, out', [(BasicBlock, 4), (BottleneckBlock, 16)])
def test_blocks_start_as_their_shortcut(block, out):
    x = np.random.default_rng(3).normal(size=(2, 8, 8, out)).astype(np.float32)
    model = block(channels=4, stride=1, padding='torch', dtype=jnp.float32)
    y, variables = model.init_with_output(jax.random.key(0), x, True)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    assert 'conv_shortcut' not in variables['params']

    model = model.clone(stride=2)
    y, variables = model.init_with_output(jax.random.key(0), x, False)
    projected = x[:, ::2, ::2] @ np.asarray(variables['params']['conv_shortcut']['kernel'])[0, 0]
    np.testing.assert_allclose(y, np.maximum(projected / np.sqrt(1 + 1e-5), 0), atol=1e-6)


def test_convolutions_start_as_he_normal():
    block = BasicBlock(channels=512, stride=1, padding='torch', dtype=jnp.float32)
    variables = block.init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)), False)
    kernel = variables['params']['conv1']['kernel']
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 512)), rtol=0.01)
    assert np.abs(kernel).max() > 4 * np.std(kernel)  # not truncated


@pytest.mark.parametrize('devices', [1, 8])
def test_batch_statistics_are_those_of_the_global_batch(devices):
    x = np.random.default_rng(4).normal(size=(16, 5, 5, 4)).astype(np.float32)
    x += np.arange(16, dtype=np.float32).reshape(16, 1, 1, 1)  # every device sees another mean
    model = BasicBlock(channels=4, stride=1, padding='torch', dtype=jnp.float32)
    variables = randomise(model.init(jax.random.key(0), x, False))
    mesh = jax.make_mesh(
        (devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec('data')))
    apply = jax.jit(lambda v, x: model.apply(v, x, True, mutable=['batch_stats']))
    y, updated = apply(variables, sharded)

    params, old, new = variables['params'], variables['batch_stats'], updated['batch_stats']
    h = x.astype(np.float64)
    for index in (1, 2):
        h = numpy_conv(h, params[f'conv{index}']['kernel'], 1, 'torch')
        mean, variance = h.mean(axis=(0, 1, 2)), h.var(axis=(0, 1, 2))
        bn, before, after = params[f'bn{index}'], old[f'bn{index}'], new[f'bn{index}']
        np.testing.assert_allclose(after['mean'], 0.9 * before['mean'] + 0.1 * mean, rtol=1e-4)
        np.testing.assert_allclose(after['var'], 0.9 * before['var'] + 0.1 * variance, rtol=1e-4)
        h = (h - mean) / np.sqrt(variance + 1e-5) * bn['scale'] + bn['bias']
        h = np.maximum(h, 0) if index == 1 else h
    np.testing.assert_allclose(y, np.maximum(x + h, 0), atol=1e-4)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    model = ResNet(50, 0.25, dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)

    def step(x):
        variables = model.init(jax.random.key(0), x, False)
        return variables, model.apply(variables, x, True, mutable=['batch_stats'])

    variables, (features, updated) = jax.eval_shape(step, images)
    assert features.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, updated))} == {jnp.dtype('float32')}
    traced = jax.jit(step).trace(images)
    for platform in ('cpu', 'tpu'):  # those of one pixel are products on a CPU
        lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
        found = [line for line in lines if re.search(r'stablehlo\.(convolution|dot_general)', line)]
        assert len(found) >= 53 and all('bf16>' in line for line in found)


def test_names_of_the_parameters():
    params = shapes(ResNet(50))['params']
    assert list(params) == ['bn_stem', 'conv_stem', 'stage1', 'stage2', 'stage3', 'stage4']
    assert [len(params[f'stage{i}']) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    layers = {'conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3'}
    assert set(params['stage2']['block1']) == layers | {'conv_shortcut', 'bn_shortcut'}
    assert set(params['stage2']['block2']) == layers
    assert params['stage2']['block1']['conv2']['kernel'].shape == (3, 3, 128, 128)
