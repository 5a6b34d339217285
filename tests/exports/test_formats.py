"""Each format in its own runtime, against the network in JAX, and against timm where it fits."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.exports import papers, verify
from big_ssl.exports.formats import onnx, orbax, safetensors, savedmodel, stablehlo
from big_ssl.models.resnet import ResNet
from big_ssl.train import init_from
from tests import peers
from tests.exports import made
from tests.weights import networks

FORMATS = {
    'stablehlo': stablehlo,
    'savedmodel': savedmodel,
    'orbax': orbax,
    'safetensors': safetensors,
    'onnx': onnx,
}
NEEDS = {'safetensors': peers.torch, 'onnx': peers.onnx}


def written(name, model, folder):
    """A folder in this format, without its card."""
    NEEDS.get(name, lambda: None)()
    writer = FORMATS[name]
    folder.mkdir()
    writer.write(model, folder)
    facts = papers.Facts(name, writer.AXES, writer.REQUIREMENTS, 'command', 'MIT', 'none')
    papers.write_interface(model, facts, folder)
    return folder


SETTINGS = {
    'plain': {},
    'small-same': {'model__stem': 'small_images', 'model__padding': 'same'},
    'simclr': {'model__padding': 'simclr', 'init_normalization': 'imagenet', 'size': 39},
    'bottleneck-same': {'model__padding': 'same', 'model__depth': 50, 'model__width': 0.5},
    'bit': {
        'model__name': 'bit', 'model__depth': 50, 'model__width': 0.5,
        'init_normalization': 'symmetric',
    },
    'vit': {'model__name': 'vit_ti16', 'model__depth': 2, 'size': 48},
    'dinov2': {
        'model__name': 'vit_ti14', 'model__depth': 2, 'model__registers': 4,
        'model__layer_scale': True, 'init_normalization': 'imagenet', 'size': 42,
    },
}  # fmt: skip


def long(*values: str) -> object:
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('safetensors', 'plain'),
        ('safetensors', 'small-same'),
        ('safetensors', 'simclr'),
        ('safetensors', 'bit'),
        ('safetensors', 'vit'),
        ('onnx', 'dinov2'),
        ('stablehlo', 'vit'),
        ('orbax', 'dinov2'),
        long('safetensors', 'dinov2'),
        long('onnx', 'vit'),
        long('stablehlo', 'dinov2'),
        long('savedmodel', 'vit'),
        long('savedmodel', 'dinov2'),
        long('orbax', 'vit'),
        ('onnx', 'small-same'),
        long('onnx', 'bottleneck-same'),
        long('safetensors', 'bottleneck-same'),
        long('onnx', 'simclr'),
        long('onnx', 'bit'),
        long('stablehlo', 'small-same'),
        long('stablehlo', 'bit'),
        long('savedmodel', 'simclr'),
        long('savedmodel', 'bit'),
        long('orbax', 'bottleneck-same'),
        long('orbax', 'bit'),
    ],
)
def test_outputs_of_every_network(tmp_path, name, kind):
    model = made.model(made.single(), **SETTINGS[kind])
    folder = written(name, model, tmp_path / name)
    assert verify.difference(model, folder) < 3e-5  # sums of float32 in another order


TASKS = {
    'exclusive': made.single(),
    'several': Task(made.CLASSES, multilabel=True),
    'own_class': Task(made.CLASSES, multilabel=True, negative='none', uncertain_class=True),
    'features': None,
}


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('stablehlo', 'own_class'),
        ('savedmodel', 'exclusive'),
        ('onnx', 'several'),
        long('stablehlo', 'several'),
        long('stablehlo', 'features'),
        long('savedmodel', 'own_class'),
        long('onnx', 'exclusive'),
        long('onnx', 'own_class'),
    ],
)
def test_baked_from_bytes_to_probabilities(tmp_path, name, kind):
    task = TASKS[kind]
    model = made.model(task, baked=True)
    folder = written(name, model, tmp_path / name)
    assert verify.difference(model, folder) < 1e-5
    outputs = model.reference(verify.images_like_real_ones(model.image_size))
    if task is not None and not task.multilabel:
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    plain = made.model(task).reference(verify.images_like_real_ones(model.image_size))
    if task is not None and not task.multilabel:
        exponentials = np.exp(plain - plain.max(axis=1, keepdims=True))
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    elif task is not None and task.uncertain_class:
        expected = 1 / (1 + np.exp(plain[:, 0::3] - plain[:, 1::3]))
    else:
        expected = plain if task is None else 1 / (1 + np.exp(-plain))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_stablehlo_needs_jax_alone_and_runs_on_every_platform(tmp_path):
    model = made.model()
    written('stablehlo', model, tmp_path / 'out')
    exported = jax.export.deserialize((tmp_path / 'out/model.stablehlo').read_bytes())
    assert exported.platforms == ('cpu', 'cuda', 'tpu')
    assert str(exported.in_avals[0]) == f'float32[batch,{made.SIZE},{made.SIZE},3]'
    images = networks.images(3, made.SIZE)
    np.testing.assert_allclose(exported.call(images), model.function()(images), atol=1e-5)
    text = exported.mlir_module()
    convolutions = text.count('stablehlo.convolution')
    assert convolutions and text.count('#stablehlo<precision HIGHEST>') >= 2 * convolutions


def test_savedmodel_serves_any_number_of_images(tmp_path):
    tf = pytest.importorskip('tensorflow')
    model = made.model()
    written('savedmodel', model, tmp_path / 'out')
    loaded = tf.saved_model.load(str(tmp_path / 'out'))
    for count in (1, savedmodel.AT_ONCE, savedmodel.AT_ONCE + 3):
        images = networks.images(count, made.SIZE)
        expected = model.function()(images)
        np.testing.assert_allclose(loaded(tf.constant(images)), expected, rtol=1e-5, atol=1e-5)
    served = loaded.signatures['serving_default'](images=tf.constant(images))
    np.testing.assert_allclose(next(iter(served.values())), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    'name, settings',
    [
        ('resnet18', {'model__depth': 18, 'model__width': 1.0}),
        ('resnet50', {'model__depth': 50, 'model__width': 1.0}),
        ('vit_tiny_patch16_224', {'model__name': 'vit_ti16', 'init_normalization': 'symmetric'}),
        pytest.param(
            'resnetv2_50x1_bit',
            {
                'model__name': 'bit', 'model__depth': 50, 'model__width': 1.0,
                'init_normalization': 'symmetric',
            },
            marks=pytest.mark.long,
        ),
    ],
)  # fmt: skip
def test_a_network_of_timm_takes_the_file(tmp_path, name, settings):
    torch, timm = peers.torch(), peers.timm()
    from safetensors.torch import load_file

    model = made.model(made.single(), size=64, **settings)
    folder = written('safetensors', model, tmp_path / 'out')
    size = {'img_size': 64} if name.startswith('vit') else {}
    network = timm.create_model(name, num_classes=len(made.CLASSES), **size)
    network.load_state_dict(load_file(folder / 'model.safetensors'), strict=True)
    images = networks.images()
    given = 2 * images - 1 if 'init_normalization' in settings else images
    with torch.no_grad():
        found = network.eval()(torch.from_numpy(given.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(found, model.function()(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('depth', [18, 34, 50, long(101), long(152), long(200)])
def test_from_timm_and_back_bit_by_bit(tmp_path, depth):
    peers.timm()
    from safetensors.torch import save_file

    network = networks.torch_network(f'resnet{depth}')
    save_file(network.state_dict(), tmp_path / 'weights.safetensors')
    source = init_from.load(str(tmp_path / 'weights.safetensors'))
    encoder = ResNet(**networks.settled(source))
    variables = networks.variables_of(encoder, source)
    model = made.model(model__depth=depth, model__width=1.0)
    nested = {kind: {'encoder': tree} for kind, tree in variables.items()}
    back = safetensors.state_dict(dataclasses.replace(model, variables=nested))
    theirs = {k: v for k, v in network.state_dict().items() if not k.endswith('_tracked')}
    assert back.keys() == theirs.keys()
    for name, array in back.items():
        assert array.tobytes() == theirs[name].numpy().tobytes(), name


def test_its_own_safetensors_are_a_start_again(tmp_path):
    """Padding and the range of images are in the file: nothing is to be guessed."""
    model = made.model(model__padding='simclr', init_normalization='none')
    folder = written('safetensors', model, tmp_path / 'out')
    source = init_from.load(str(folder / 'model.safetensors'))
    assert not source.guessed
    encoder = ResNet(**networks.settled(source))
    assert (encoder.padding, encoder.normalization) == ('simclr', 'none')
    found = networks.variables_of(encoder, source)
    jax.tree.map(
        np.testing.assert_array_equal,
        found,
        {kind: tree['encoder'] for kind, tree in model.variables.items()},
    )


def test_a_difference_is_found(tmp_path):
    model = made.model(made.single())
    folder = written('orbax', model, tmp_path / 'out')
    runtime = (folder / 'runtime.py').read_text()
    (folder / 'runtime.py').write_text(runtime.replace('/ 255', '/ 254.9'))
    with pytest.raises(InputError, match='differs from its source by'):
        verify.difference(model, folder)
    (folder / 'runtime.py').write_text(runtime.replace('def load', 'def lead'))
    with pytest.raises(InputError, match='does not run, nothing is written: AttributeError'):
        verify.difference(model, folder)
    (folder / 'runtime.py').write_text('import a_runtime_that_is_not_installed\n' + runtime)
    assert verify.difference(model, folder) is None


def test_settings_of_the_receiver_are_plain_data(tmp_path):
    folder = written('orbax', made.model(made.single()), tmp_path / 'out')
    labels = json.loads((folder / 'labels.json').read_text())
    assert labels['classes'] == list(made.CLASSES)
    assert labels['outputs'] == 'logits of classes that exclude one another'
    preprocessing = json.loads((folder / 'preprocessing.json').read_text())
    assert preprocessing['image_size'] == made.SIZE and preprocessing['crop'] == 0.875
    assert preprocessing['input'] == {'dtype': 'float32', 'range': [0, 1], 'axes': 'NHWC'}
