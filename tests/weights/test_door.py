"""Runs of `big_ssl.main` that begin with weights of others."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from big_ssl import config as config_lib
from big_ssl import main
from big_ssl.errors import InputError
from big_ssl.models import naming, resnet
from big_ssl.models.resnet import ResNet, torchvision_names
from big_ssl.train import init_from
from tests import runs

TWO_BLOCKS = (1, 1)  # as runs.start makes a ResNet-18


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file by torchvision's names, its metadata, and what an encoder makes of it."""
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, TWO_BLOCKS)

    def make(name='weights.safetensors', width=0.25, **metadata):
        shapes = jax.eval_shape(
            lambda: ResNet(18, width).init(jax.random.key(0), np.zeros((1, 32, 32, 3)), False)
        )
        rng, arrays = np.random.default_rng(0), {}
        for (kind, *rest), leaf in traverse_util.flatten_dict(shapes).items():
            path = (kind, 'encoder', *rest)
            drawn = rng.uniform(0.1, 0.2, leaf.shape).astype(np.float32)
            arrays[torchvision_names.name(path)] = np.ascontiguousarray(naming.to_torch(drawn))
        arrays['fc.weight'] = np.zeros((1000, 32), np.float32)
        about = {'big_ssl': json.dumps(metadata)} if metadata else None
        (tmp_path / name).write_bytes(safetensors.numpy.save(arrays, about))
        return tmp_path / name

    return make


BY_NAMES = 'import big_ssl.models.resnet.network as r; r.BASIC_DEPTHS[18] = (1, 1, 0, 0)\n'


def finetune(workdir, manifest, path, *more):
    return runs.flags('derm_finetune', workdir, manifest, f'--config.init_from={path}', *more)


@pytest.mark.long
def test_finetuning_from_a_file(published, tmp_path, compile_cache, tiny_manifest):
    """What names cannot tell is said; what was taken is written; the file is not needed again."""
    path, workdir = published(), tmp_path / 'run'
    arguments = finetune(workdir, tiny_manifest, path)
    output = runs.run(arguments, compile_cache, before=BY_NAMES)
    assert (
        'model.padding=torch init_normalization=imagenet, as is usual for a ResNet by the names of '
        f'torchvision and timm; was {path} trained' in output
    )
    assert 'init_from: not used of that file: fc.weight (1000, 32)' in output
    config = json.loads((workdir / 'config.json').read_text())
    assert config['init_normalization'] == 'imagenet' and config['model']['padding'] == 'torch'
    table = (workdir / 'init_from.tsv').read_text()
    assert 'loaded\tconv1.weight\tencoder/conv_stem/kernel\t(7, 7, 3, 16)' in table
    assert 'unused\tfc.weight\t\t(1000, 32)' in table
    assert 'initial\tnot asked for\tclassifier/dense/kernel\t(32, 2)' in table
    result = runs.result(workdir)
    assert result['trained_on/before/weights'] == str(path)
    assert len(result['trained_on/before/sha256']) == 64
    path.unlink()
    (workdir / 'result.json').unlink()
    assert 'resuming at step 12' in runs.run(arguments, compile_cache, before=BY_NAMES)

    further = finetune(tmp_path / 'further', tiny_manifest, workdir)
    output = runs.run(further, compile_cache, before=BY_NAMES)
    assert f'init_normalization=imagenet, as in {workdir}' in output
    judged = finetune(tmp_path / 'judged', tiny_manifest, workdir, '--config.task=evaluate')
    runs.run(judged, compile_cache, before=BY_NAMES)
    again = runs.result(tmp_path / 'judged')
    assert again['test/top1'] == result['test/top1']
    line = {line['split']: line for line in runs.metrics(tmp_path / 'judged')}['test']
    assert (line['step'], line['top1']) == (12, again['test/top1'])
    shown = EventAccumulator(str(tmp_path / 'judged'), {'tensors': 0}).Reload().Tags()['tensors']
    assert {'test/top1', 'Figures/95% intervals', 'Split test/Confusion'} <= set(shown)


@pytest.mark.long
def test_the_file_or_the_user_says_what_images_it_needs(
    published, tmp_path, compile_cache, tiny_manifest
):
    told = published('told.safetensors', init_normalization='none')
    output = runs.run(finetune(tmp_path / 'a', tiny_manifest, told), compile_cache, before=BY_NAMES)
    assert 'init_normalization=none, as' in output
    untold = finetune(
        tmp_path / 'b', tiny_manifest, published(), '--config.init_normalization=none'
    )
    assert 'init_normalization=' not in runs.run(untold, compile_cache, before=BY_NAMES)
    for folder in 'ab':
        config = json.loads((tmp_path / folder / 'config.json').read_text())
        assert config['init_normalization'] == 'none'
    assert runs.metrics(tmp_path / 'a') == runs.metrics(tmp_path / 'b')
    contrary = finetune(tmp_path / 'c', tiny_manifest, told, '--config.init_normalization=imagenet')
    output = runs.run(contrary, compile_cache, expected=2, before=BY_NAMES)
    assert output.strip().endswith('to use it: --config.init_normalization=none')
    assert not (tmp_path / 'c/config.json').exists()


@pytest.mark.parametrize(
    'flag, ending',
    [
        ('--config.model.width=0.5', 'to use it: --config.model.width=0.25'),
        ('--config.model.depth=34', 'to use it: --config.model.depth=18'),
        ('--config.init_prefix=backbone.', "networks by the prefixes ''; choose one by "),
        (
            '--config.model.name=bit',
            'config: model.width=0.25 is outside [0.5, 4]',
        ),
    ],
)
def test_another_network_is_one_line(
    published, tmp_path, compile_cache, tiny_manifest, flag, ending
):
    arguments = finetune(tmp_path / 'run', tiny_manifest, published(), flag)
    output = runs.run(arguments, compile_cache, expected=2, before=BY_NAMES)
    last = output.strip().splitlines()[-1]
    assert last.startswith('error: ') and ending in last and 'Traceback' not in output
    assert not (tmp_path / 'run/config.json').exists()


def test_features_of_a_file(published, tmp_path, compile_cache, tiny_manifest):
    """Depth and width too are taken from the file where nothing is trained."""
    arguments = [
        '--config=configs/embed.py', f'--workdir={tmp_path / "run"}',
        f'--config.dataset.manifest={tiny_manifest}', '--config.splits.evaluate=test',
        f'--config.init_from={published()}', '--config.image_size=32', '--config.batch_size=8',
    ]  # fmt: skip
    output = runs.run(arguments, compile_cache, before=BY_NAMES)
    assert 'model.depth=18 model.width=0.25' in output
    assert (tmp_path / 'run/embeddings.csv').exists()


@pytest.mark.long
def test_a_bit_is_trained_saved_and_goes_on(tmp_path, compile_cache, tiny_manifest):
    """It has no batch statistics, which its checkpoints must not miss."""
    two_blocks = 'import big_ssl.models.resnet.network as r; r.BOTTLENECK_DEPTHS[50] = (1, 1)\n'
    bit = ('--config.model.name=bit', '--config.model.depth=50', '--config.model.width=0.5')
    pretrained, run = tmp_path / 'pretrained', tmp_path / 'run'
    arguments = runs.flags('derm_micle', pretrained, tiny_manifest, *bit)
    runs.run(arguments, compile_cache, before=two_blocks)
    arguments = finetune(run, tiny_manifest, pretrained, *bit)
    runs.run(arguments, compile_cache, before=two_blocks)
    result = runs.result(run)
    (run / 'result.json').unlink()
    assert 'resuming at step 12' in runs.run(arguments, compile_cache, before=two_blocks)
    assert runs.result(run) == result
    judged = finetune(tmp_path / 'judged', tiny_manifest, run, '--config.task=evaluate', *bit)
    runs.run(judged, compile_cache, before=two_blocks)
    assert runs.result(tmp_path / 'judged')['test/top1'] == result['test/top1']


@pytest.fixture
def dinov2(tmp_path):
    """A file by timm's names of DINOv2: two blocks, registers, 5 x 5 positions."""
    rng = np.random.default_rng(0)
    shapes = {
        'cls_token': (1, 1, 192), 'reg_token': (1, 4, 192), 'pos_embed': (1, 25, 192),
        'patch_embed.proj.weight': (192, 3, 14, 14), 'patch_embed.proj.bias': (192,),
        'norm.weight': (192,), 'norm.bias': (192,),
    }  # fmt: skip
    for block in ('blocks.0.', 'blocks.1.'):
        for name, out, size in (
            ('attn.qkv', 576, 192), ('attn.proj', 192, 192), ('mlp.fc1', 768, 192),
            ('mlp.fc2', 192, 768),
        ):  # fmt: skip
            shapes |= {f'{block}{name}.weight': (out, size), f'{block}{name}.bias': (out,)}
        for name in ('norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias', 'ls1.gamma',
                     'ls2.gamma'):  # fmt: skip
            shapes[f'{block}{name}'] = (192,)
    arrays = {k: rng.normal(0, 0.1, shape).astype(np.float32) for k, shape in shapes.items()}
    (tmp_path / 'dinov2.safetensors').write_bytes(safetensors.numpy.save(arrays))
    return tmp_path / 'dinov2.safetensors'


def of_vit(config, workdir, manifest, *more):
    flags = runs.flags(config, workdir, manifest, *more)
    return [flag for flag in flags if '--config.model' not in flag]


def test_dinov2_is_all_that_is_said(dinov2, tmp_path, compile_cache, tiny_manifest):
    """The file gives the network; it goes on without it, and others take it from the workdir."""
    given = (f'--config.init_from={dinov2}', '--config.image_size=28')
    arguments = of_vit('derm_finetune', tmp_path / 'run', tiny_manifest, *given)
    output = runs.run(arguments, compile_cache)
    assert (
        'model.name=vit model.width=192 model.patch=14 model.registers=4 model.layer_scale=True '
        'init_normalization=imagenet, as is usual for a ViT by the names of timm'
    ) in output.replace('model.depth=2 ', '')
    config = json.loads((tmp_path / 'run/config.json').read_text())
    assert config['model']['depth'] == 2 and config['init_normalization'] == 'imagenet'
    first = (tmp_path / 'run/metrics.jsonl').read_text()
    (tmp_path / 'run/result.json').unlink()
    dinov2.rename(tmp_path / 'elsewhere')
    assert 'resuming at step 12' in runs.run(arguments, compile_cache)
    assert (tmp_path / 'run/metrics.jsonl').read_text().startswith(first)


@pytest.mark.long
def test_a_vit_moves_to_another_image_size(dinov2, tmp_path, compile_cache, tiny_manifest):
    """Pre-training, fine-tuning on larger images, and its judgement at theirs."""
    given = (f'--config.init_from={dinov2}', '--config.image_size=28')
    arguments = of_vit('derm_micle', tmp_path / 'micle', tiny_manifest, *given)
    runs.run(arguments, compile_cache)
    given = (f'--config.init_from={tmp_path / "micle"}', '--config.image_size=42')
    arguments = of_vit('derm_finetune', tmp_path / 'tuned', tiny_manifest, *given)
    assert 'model.name=vit' in runs.run(arguments, compile_cache)
    shapes = (tmp_path / 'tuned/init_from.tsv').read_text()
    assert 'encoder/pos_embed\t(9, 192)' in shapes
    arguments = [
        '--config=configs/shift_evaluate.py', f'--workdir={tmp_path / "judged"}',
        f'--config.dataset.manifest={tiny_manifest}', f'--config.init_from={tmp_path / "tuned"}',
        '--config.batch_size=8', '--config.splits.evaluate=test',
    ]  # fmt: skip
    assert 'image_size=42' in runs.run(arguments, compile_cache)
    ours, theirs = (runs.result(tmp_path / name) for name in ('tuned', 'judged'))
    assert theirs['test/auc_macro_all'] == ours['test/auc_macro_all']


@pytest.mark.parametrize(
    'flags, line',
    [
        (['--config.image_size=30'], 'give --config.image_size=42 or 28'),
        (['--config.model.name=resnet18'], 'to use it: --config.model.name=vit --config.model.'),
        (['--config.model.name=vit_b14'], '--config.model.depth=2 --config.model.width=192'),
    ],
)  # fmt: skip
def test_another_network_than_dinov2s(dinov2, flags, line):
    arguments = ['main', '--config=configs/derm_micle.py', '--workdir=nowhere', *flags]
    arguments += [f'--config.init_from={dinov2}', '--config.dataset.name=phantom']
    if not flags[0].startswith('--config.image_size'):
        arguments.append('--config.image_size=28')
    config, workdir, given = main.parse(arguments)
    with pytest.raises(InputError, match=line):
        init_from.settle(config, workdir, given)
        config_lib.check_backbone(config)
        init_from.check_settings(init_from.load(str(dinov2)), config)
