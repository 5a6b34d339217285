"""timm's own networks, with random weights, as the reference; its names and Hugging Face's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl import config as config_lib
from big_ssl.errors import InputError
from big_ssl.models import vit
from big_ssl.tasks import build
from big_ssl.train import init_from
from big_ssl.weights.match import take
from tests import peers
from tests.weights import networks

torch, timm = peers.torch(), peers.timm()
import safetensors.torch as safetensors_torch  # noqa: E402
from timm.models.vision_transformer import checkpoint_filter_fn  # noqa: E402

RANGES = {'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), 'symmetric': (0.5, 0.5)}


def network_of(name: str, **settings):
    """A timm network whose features depend on each of its arrays."""
    network, rng = timm.create_model(name, **settings), np.random.default_rng(0)

    def drawn(key, value):
        if key in ('cls_token', 'reg_token', 'pos_embed'):
            return rng.normal(size=value.shape)
        if key.endswith('gamma'):
            return rng.uniform(0.1, 0.4, value.shape)
        return networks.drawn(key, value.shape, rng)

    state = network.state_dict().items()
    network.load_state_dict({key: torch.tensor(drawn(key, v), dtype=v.dtype) for key, v in state})
    return network.eval()


def saved(state, path) -> str:
    safetensors_torch.save_file({key: value.contiguous() for key, value in state.items()}, path)
    return str(path)


def ours(path: str, images: np.ndarray):
    """Config, features and what was left of a file, for images of any size."""
    config = config_lib.defaults()
    config.init_from, config.image_size = path, images.shape[1]
    init_from.settle(config, 'nowhere')
    encoder, source = build.make_encoder(config), init_from.load(path)
    shapes = jax.eval_shape(
        lambda: encoder.init(jax.random.key(0), jnp.zeros(images.shape), train=False)
    )
    nested = {'params': {'encoder': shapes['params']}}
    taken = take(path, source.arrays(), source.match, nested, ('encoder',))
    variables = {'params': taken.variables['params']['encoder']}
    found = jax.jit(lambda v, x: encoder.apply(v, x, train=False))(variables, images)
    return config, np.asarray(found), taken.unused


def theirs(network, images: np.ndarray, how: str) -> np.ndarray:
    mean, deviation = (np.float32(values) for values in RANGES[how])
    given = ((images - mean) / deviation).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return network.forward_head(
            network.forward_features(torch.from_numpy(given.copy())), pre_logits=True
        ).numpy()


CASES = [
    ('vit_tiny_patch16_224', 224, {}, 'symmetric'),
    ('vit_tiny_patch16_224', 96, {'num_classes': 0}, 'imagenet'),
    ('vit_small_patch14_dinov2', 84, {}, 'imagenet'),
    ('vit_small_patch14_reg4_dinov2', 112, {}, 'imagenet'),
    pytest.param('vit_small_patch8_224', 64, {}, 'imagenet', marks=pytest.mark.long),
    pytest.param('vit_base_patch16_224', 160, {}, 'symmetric', marks=pytest.mark.long),
    pytest.param('vit_base_patch14_dinov2', 224, {}, 'imagenet', marks=pytest.mark.long),
    pytest.param('vit_large_patch14_reg4_dinov2', 56, {}, 'imagenet', marks=pytest.mark.long),
]


@pytest.mark.parametrize('name, size, settings, how', CASES)
def test_features_of_timm_at_any_size(tmp_path, name, size, settings, how):
    """DINOv2's have 37 x 37 positions, which timm interpolates when it is made for other images."""
    network, images = network_of(name, **settings), networks.images(size=size)
    config, found, unused = ours(saved(network.state_dict(), tmp_path / 'w.safetensors'), images)
    sizes = {'tiny': 192, 'small': 384, 'base': 768, 'large': 1024}
    assert config.model.width == sizes[name.split('_')[1]]
    assert config.model.patch == int(re.search(r'patch(\d+)', name)[1])
    assert config.model.registers == (4 if 'reg4' in name else 0)
    assert config.model.layer_scale == ('dinov2' in name)
    assert config.init_normalization == how
    assert {key for key, _ in unused} <= {'head.weight', 'head.bias'}
    other = timm.create_model(name, **settings, img_size=size)
    other.load_state_dict(checkpoint_filter_fn(network.state_dict(), other))
    expected = theirs(other.eval(), images, how)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def two_blocks(name: str):
    return network_of(name, num_classes=0, img_size=56, depth=2)


def as_fair(state) -> dict:
    """As DINOv2's own files: registers by another name, and a position of the class token."""
    state = dict(state)
    state['mask_token'] = torch.ones(1, 384)
    if 'reg_token' in state:
        state['register_tokens'] = state.pop('reg_token')
        of_class = torch.full((1, 1, 384), 0.3)
        state['cls_token'] = state['cls_token'] - of_class
        state['pos_embed'] = torch.cat([of_class, state['pos_embed']], 1)
    return state


def as_hugging_face(state, prefix: str = '') -> dict:
    """By the names of transformers, modeling_dinov2.py and modeling_dinov2_with_registers.py."""
    of_block = {
        'attn.proj': 'attention.output.dense', 'ls1.gamma': 'layer_scale1.lambda1',
        'ls2.gamma': 'layer_scale2.lambda1',
    }  # fmt: skip
    outside = {
        'patch_embed.proj': 'embeddings.patch_embeddings.projection', 'norm': 'layernorm',
        'cls_token': 'embeddings.cls_token', 'pos_embed': 'embeddings.position_embeddings',
        'register_tokens': 'embeddings.register_tokens', 'mask_token': 'embeddings.mask_token',
    }  # fmt: skip
    found = {}
    for key, value in as_fair(state).items():
        if 'attn.qkv' in key:
            place, tensor = key.split('.attn.qkv.')
            for part, piece in zip(('query', 'key', 'value'), value.chunk(3)):
                found[f'{place}.attention.attention.{part}.{tensor}'] = piece
            continue
        table = of_block if key.startswith('blocks.') else outside
        for old, new in table.items():
            if re.search(rf'(^|\.){re.escape(old)}(\.|$)', key):
                key = key.replace(old, new)
                break
        found[key] = value
    return {
        prefix + re.sub(r'^blocks\.', 'encoder.layer.', key): value for key, value in found.items()
    }


@pytest.mark.parametrize('name', ['vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2'])
@pytest.mark.parametrize('kind', ['fair', 'hugging face', 'hugging face, with a prefix'])
def test_dinov2_by_the_names_of_others(tmp_path, name, kind):
    network, images = two_blocks(name), networks.images(size=56)
    prefix = 'dinov2.' if 'prefix' in kind else ''
    state = network.state_dict()
    state = as_fair(state) if kind == 'fair' else as_hugging_face(state, prefix)
    _, found, _ = ours(saved(state, tmp_path / 'w.safetensors'), images)
    np.testing.assert_allclose(found, theirs(network, images, 'imagenet'), rtol=1e-4, atol=1e-4)


def test_a_vit_of_hugging_face(tmp_path):
    """Its dense layers have other names than DINOv2's, and its classifier has no prefix."""
    network = network_of('vit_tiny_patch16_224', num_classes=3, img_size=64, depth=2)
    state = as_hugging_face({k: v for k, v in network.state_dict().items() if 'head' not in k})
    names = {
        '.norm1.': '.layernorm_before.', '.norm2.': '.layernorm_after.',
        '.mlp.fc1.': '.intermediate.dense.', '.mlp.fc2.': '.output.dense.',
    }  # fmt: skip
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    del state['embeddings.mask_token']
    state = {f'vit.{key}': value for key, value in state.items()}
    state |= {f'classifier.{k}': v for k, v in network.head.state_dict().items()}
    images = networks.images(size=64)
    config, found, _ = ours(saved(state, tmp_path / 'w.safetensors'), images)
    assert config.init_normalization == 'symmetric'
    np.testing.assert_allclose(found, theirs(network, images, 'symmetric'), rtol=1e-4, atol=1e-4)


def test_teacher_and_student_in_one_file(tmp_path):
    parts = {
        f'{part}.backbone.': two_blocks('vit_small_patch14_dinov2')
        for part in ('student', 'teacher')
    }
    state = {
        prefix + k: v for prefix, network in parts.items() for k, v in network.state_dict().items()
    }
    path = saved(state, tmp_path / 'w.safetensors')
    with pytest.raises(InputError, match=r"prefixes 'student.backbone.', 'teacher.backbone.'"):
        init_from.load(path)
    source = init_from.load(path, 'teacher.backbone.')
    assert source.settings['model.depth'] == 2


@pytest.mark.parametrize(
    'change, problem',
    [
        (lambda s: s.pop('cls_token'), 'a ViT without cls_token'),
        (lambda s: s.pop('pos_embed'), 'a ViT without pos_embed'),
        (lambda s: s.update(pos_embed=torch.zeros(1, 15, 384)), 'pos_embed has 15 positions'),
        (lambda s: s.update({'patch_embed.proj.weight': torch.zeros(1280, 3, 7, 7)}),
         'a ViT of width 1280; known are 192, 384, 768, 1024'),
        (lambda s: s.update({'fc_norm.weight': torch.zeros(384)}), 'fc_norm.weight .* no place'),
        (lambda s: s.pop('blocks.1.mlp.fc1.weight'), 'blocks.1.mlp.fc1.weight is not there'),
        (lambda s: s.update({'blocks.0.mlp.w12.weight': torch.zeros(8, 384)}), 'w12.weight'),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(tmp_path, change, problem):
    state = two_blocks('vit_small_patch14_dinov2').state_dict()
    change(state)
    with pytest.raises(InputError, match=problem):
        ours(saved(state, tmp_path / 'w.safetensors'), networks.images(size=56))


def test_from_timm_and_back(tmp_path):
    """The class token's position is added to it once; nothing else changes a bit."""
    for name in ('vit_small_patch14_reg4_dinov2', 'vit_small_patch14_dinov2'):
        network = two_blocks(name)
        path = saved(network.state_dict(), tmp_path / f'{name}.safetensors')
        config = config_lib.defaults()
        config.init_from, config.image_size = path, 56
        init_from.settle(config, 'nowhere')
        source = init_from.load(path)
        encoder = build.make_encoder(config)
        images = networks.images(size=56)
        shapes = jax.eval_shape(lambda: encoder.init(jax.random.key(0), images, train=False))  # noqa: B023
        nested = {'params': {'encoder': shapes['params']}}
        taken = take(path, source.arrays(), source.match, nested, ('encoder',))
        flat = {
            ('params', 'encoder', *(part.key for part in where)): leaf
            for where, leaf in jax.tree.leaves_with_path(taken.variables['params']['encoder'])
        }
        back = vit.TORCH.state_dict(flat)
        state = network.state_dict()
        assert back.keys() == state.keys()
        for key, array in back.items():
            if key in ('cls_token', 'pos_embed') and 'reg4' not in name:
                continue
            assert np.ascontiguousarray(array).tobytes() == state[key].numpy().tobytes(), key
        other = timm.create_model(name, num_classes=0, img_size=56, depth=2)
        other.load_state_dict({k: torch.tensor(np.ascontiguousarray(v)) for k, v in back.items()})
        expected = theirs(network, images, 'imagenet')
        np.testing.assert_allclose(theirs(other.eval(), images, 'imagenet'), expected, atol=1e-5)
