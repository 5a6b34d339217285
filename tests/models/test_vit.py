"""Besides: timm's networks as the reference, in tests/weights/test_vit_names.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from big_ssl import config as config_lib
from big_ssl.errors import InputError
from big_ssl.models import vit
from big_ssl.models.vit.network import ViT

SMALL = {'depth': 3, 'width': 128, 'patch': 4, 'image_size': 12, 'normalization': 'symmetric'}
# timm's published counts without classifier, of 224 pixels.
TIMM = {'vit_ti16': 5_524_416, 'vit_s16': 21_665_664, 'vit_b16': 85_798_656, 'vit_l16': 303_301_632}


def variables_of(network: ViT, seed: int = 0):
    """Drawn, so that no array is zero or one."""
    size = network.image_size
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False)
    )
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(0, 0.2, x.shape).astype(np.float32), shapes)


def images(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).uniform(size=(count, size, size, 3)).astype(np.float32)


def by_hand(params, x: np.ndarray, network: ViT) -> np.ndarray:
    """float64, in loops over images, patches and heads."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    side = network.image_size // network.patch

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']
        )

    def dense(x, p):
        return x @ p['kernel'] + p['bias']

    found = []
    for image in 2 * x.astype(np.float64) - 1:
        tokens = [params['cls_token'][0]]
        tokens += list(params['registers']) if network.registers else []
        for i in range(side):
            for j in range(side):
                rows = slice(i * network.patch, (i + 1) * network.patch)
                columns = slice(j * network.patch, (j + 1) * network.patch)
                patch = dense(image[rows, columns].reshape(-1), params['patch_embed'])
                tokens.append(patch + params['pos_embed'][i * side + j])
        x = np.stack(tokens)
        for index in range(network.depth):
            p = params[f'block{index + 1}']
            y = dense(norm(x, p['norm1']), p['qkv'])
            query, key, value = np.split(y, 3, axis=1)
            heads = []
            for head in range(network.width // 64):
                part = slice(64 * head, 64 * head + 64)
                weights = special.softmax(query[:, part] @ key[:, part].T / 8, axis=1)
                heads.append(weights @ value[:, part])
            y = dense(np.concatenate(heads, axis=1), p['proj'])
            x = x + y * p.get('ls1', 1)
            y = dense(norm(x, p['norm2']), p['fc1'])
            y = dense(y * special.ndtr(y), p['fc2'])
            x = x + y * p.get('ls2', 1)
        found.append(norm(x, params['norm'])[0])
    return np.stack(found)


@pytest.mark.parametrize('more', [{}, {'registers': 2, 'layer_scale': True}])
def test_features_by_hand(more):
    network = ViT(**SMALL, **more)
    variables, x = variables_of(network), images(12)
    found = network.apply(variables, x, train=True)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_hand(variables['params'], x, network), atol=1e-4)


@pytest.mark.parametrize('name', TIMM)
def test_published_counts(name):
    """The class token has no position of its own here."""
    config = config_lib.defaults()
    config.model.name = name
    config_lib.close(config)
    network = vit.make(config, jnp.float32)
    one = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), one)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
    assert count == TIMM[name] - network.width


@pytest.mark.parametrize(
    'how', [{'scan': True}, {'remat': 'norms'}, {'remat': 'blocks', 'scan': 1}]
)
def test_computed_in_another_way_it_gives_the_same(how):
    plain, other = (ViT(**SMALL, registers=1, layer_scale=True, **more) for more in ({}, how))
    variables, x = variables_of(plain), images(12)

    def loss(network, variables):
        return jnp.sum(jnp.sin(network.apply(variables, x, train=True)))

    expected = jax.value_and_grad(lambda v: loss(plain, v))(variables)
    found = jax.value_and_grad(lambda v: loss(other, v))(variables)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected
    )


def test_bfloat16_is_near_and_its_parameters_are_float32():
    plain, half = (ViT(**SMALL, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = half.init(jax.random.key(0), images(12), train=False)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}
    found, expected = (
        network.apply(variables, images(12), train=False) for network in (half, plain)
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_names_of_networks():
    config = config_lib.defaults()
    config.model.name = 'vit_b8'
    assert config.model.to_dict() == {
        'name': 'vit', 'depth': 12, 'width': 768, 'patch': 8, 'registers': 0, 'layer_scale': False,
        'batch_norm': 'batch', 'dtype': 'auto',
    }  # fmt: skip
    assert vit.title(config.model) == 'ViT-B/8'
    config.model.registers, config.model.depth = 4, 6
    assert vit.title(config.model) == 'ViT-6x768/8 with 4 registers'


@pytest.mark.parametrize(
    'changes, problem',
    [
        ({'image_size': 80}, 'image_size=80 does not divide into patches of model.patch=14 pixels; '
         'give --config.image_size=84 or 70'),
        ({'image_size': 12}, r'give --config.image_size=14$'),
        ({'model.width': 100}, 'model.width=100 is no multiple of 64, a head of a ViT'),
        ({'model.patch': 1}, r'model.patch=1 is outside \[2, 64\]'),
    ],
)  # fmt: skip
def test_what_it_cannot_be(changes, problem):
    config = config_lib.defaults()
    config.model.name = 'vit_s14'
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=problem):
        config_lib.check_backbone(config)


def test_positions_of_another_size():
    """A plane stays a plane between the outermost patches, and the same size the same bits."""
    x, y = np.meshgrid(np.arange(6) / 6, np.arange(6) / 6)
    plane = np.stack([x, y, 1 + x + 2 * y], axis=-1).reshape(36, 3).astype(np.float32)
    path = ('params', 'encoder', 'pos_embed')
    assert vit.fit(path, plane, (36, 3)) is plane
    found = vit.fit(path, plane, (144, 3)).reshape(12, 12, 3)
    inner = (np.arange(12) + 0.5) / 12 - 0.5 / 6
    np.testing.assert_allclose(found[3:-3, 3:-3, 0], np.tile(inner[3:-3], (6, 1)), atol=1e-6)
    np.testing.assert_allclose(found[..., 2], 1 + found[..., 0] + 2 * found[..., 1], atol=1e-5)
    kernel = np.ones((4, 3), np.float32)
    assert vit.fit(('params', 'encoder', 'norm', 'kernel'), kernel, (9, 3)) is kernel
