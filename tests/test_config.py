import functools
import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from big_ssl.config import defaults, differences, keys, names, settle, steps
from big_ssl.errors import InputError
from big_ssl.keys import nearest
from big_ssl.run_keys import DURATIONS, UNITS
from tests.helpers import COLUMNS

CONFIGS = sorted((Path(__file__).parent.parent / 'configs').glob('*.py'))
VARIANTS = ['', 'demo']

# Names that scripts and other people's checks rely on.
CONTRACT = [
    'task', 'seed', 'dataset.name', 'dataset.data_dir', 'dataset.manifest', 'pairing', 'batch_size',
    'total_steps', 'total_epochs', 'image_size', 'model.depth', 'model.width', 'init_from',
    'label_fraction', 'checkpoint_every_steps',
]  # fmt: skip

# What is published, or was recalled from a paper's body. A changed number shows here.
PUBLISHED = {
    'imagenet_simclr': {
        'task': 'contrastive', 'pairing': 'augment', 'views': 2,
        'batch_size': 4096, 'total_epochs': 1000, 'total_steps': None, 'warmup_epochs': 10,
        'image_size': 224, 'method.temperature': 0.1,
        'optimizer.name': 'lars', 'optimizer.learning_rate': 0.3, 'optimizer.scaling': 'linear',
        'optimizer.schedule': 'cosine', 'optimizer.momentum': 0.9, 'optimizer.nesterov': False,
        'optimizer.weight_decay': 1e-6,
        'model.depth': 50, 'model.width': 1.0, 'model.stem': 'standard',
        'method.projection_layers': 2, 'method.projection_size': 128,
        'crop.area': (0.08, 1.0), 'crop.aspect': (0.75, 4 / 3), 'crop.evaluation': 0.875,
        'crop.min_object_covered': 0.1,
        'augment.jitter_strength': 1.0, 'augment.jitter_probability': 0.8,
        'augment.grey_probability': 0.2, 'augment.blur_probability': 0.5,
        'augment.flip_horizontal': 0.5, 'augment.flip_vertical': 0.0,
        'augment.rotation_degrees': 0.0,
        'init_from': None, 'label_fraction': 1.0, 'splits.train': 'train',
    },
    'derm_simclr': {
        'task': 'contrastive', 'pairing': 'augment', 'views': 2,
        'batch_size': 512, 'total_steps': 150_000, 'total_epochs': None, 'warmup_epochs': 10,
        'image_size': 224, 'method.temperature': 0.1,
        'optimizer.name': 'lars', 'optimizer.learning_rate': 0.3, 'optimizer.scaling': 'linear',
        'optimizer.schedule': 'cosine', 'optimizer.weight_decay': 1e-6,
        'model.depth': 50, 'model.width': 1.0,
        'crop.area': (0.08, 1.0), 'crop.min_object_covered': 0.1,
        'augment.jitter_strength': 1.0,
        'augment.blur_probability': 0.5, 'augment.rotation_degrees': 0.0,
        'splits.train': 'train',
    },
    'derm_micle': {
        'task': 'contrastive', 'pairing': 'case', 'views': 2, 'method.mask_same_patient': True,
        'batch_size': 128, 'total_steps': 100_000, 'total_epochs': None, 'warmup_epochs': 10,
        'image_size': 224, 'method.temperature': 0.1,
        'optimizer.name': 'lars', 'optimizer.learning_rate': 0.1, 'optimizer.scaling': 'linear',
        'optimizer.schedule': 'cosine', 'optimizer.weight_decay': 1e-6,
        'model.depth': 50, 'model.width': 1.0,
        'crop.area': (0.08, 1.0), 'crop.min_object_covered': 0.1,
        'augment.jitter_strength': 1.0,
        'augment.blur_probability': 0.5, 'augment.rotation_degrees': 0.0,
        'splits.train': 'train',
    },
    'derm_finetune': {
        'task': 'supervised',
        'batch_size': 256, 'total_steps': 30_000, 'total_epochs': None, 'warmup_percent': 5.0,
        'warmup_epochs': None, 'image_size': 448,
        'optimizer.name': 'sgd', 'optimizer.momentum': 0.9, 'optimizer.learning_rate': 0.01,
        'optimizer.scaling': 'none', 'optimizer.weight_decay': 1e-4,
        'augment.jitter_strength': 0.5, 'augment.blur_probability': 0.5,
        'augment.flip_horizontal': 0.5, 'augment.flip_vertical': 0.5,
        'augment.rotation_degrees': 45.0, 'crop.area': (0.3, 1.0), 'crop.evaluation': 0.875,
        'select': 'best', 'aggregate': 'probabilities', 'label_fraction': 1.0,
        'splits.train': 'train', 'splits.val': 'val', 'splits.evaluate': 'test',
    },
    'chexpert_simclr': {
        'task': 'contrastive', 'batch_size': 1024, 'total_steps': 100_000, 'image_size': 224,
        'method.temperature': 0.1, 'optimizer.name': 'lars', 'optimizer.learning_rate': 0.5,
        'crop.area': (0.08, 1.0), 'crop.min_object_covered': 0.1,
        'augment.jitter_strength': 0.5, 'augment.rotation_degrees': 45.0,
        'augment.flip_horizontal': 0.5, 'augment.blur_probability': 0.0, 'splits.train': 'train',
    },
    'chexpert_finetune': {
        'task': 'supervised', 'batch_size': 256, 'total_steps': 30_000, 'image_size': 224,
        'labels.kind': 'multi', 'optimizer.name': 'sgd', 'optimizer.momentum': 0.9,
        'labels.classes': (
            'Atelectasis', 'Cardiomegaly', 'Consolidation', 'Edema', 'Pleural Effusion'
        ),
    },
    'imagenet_supervised': {
        'task': 'supervised', 'image_size': 224, 'crop.area': (0.08, 1.0),
        'crop.min_object_covered': 0.1,
        'augment.jitter_strength': 1.0, 'augment.jitter_probability': 0.8,
        'augment.grey_probability': 0.2, 'augment.blur_probability': 0.5,
        'augment.flip_horizontal': 0.5,
    },
}  # fmt: skip


def load(path, variant=''):
    return runpy.run_path(str(path))['get_config'](variant)


def value_of(config, dotted):
    return functools.reduce(lambda part, name: part[name], dotted.split('.'), config)


def test_columns_have_their_own_names():
    columns = defaults().dataset.columns
    assert {name: columns[name] for name in columns} == COLUMNS


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers(name):
    config = settle(load(next(path for path in CONFIGS if path.stem == name)))
    assert {key: value_of(config, key) for key in PUBLISHED[name]} == PUBLISHED[name]


def test_every_published_setting_has_a_file():
    assert set(PUBLISHED) <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_every_config_loads_with_the_default_keys_locked(path, variant):
    config = settle(load(path, variant))
    expected = defaults()
    expected.method.name = config.method.name
    assert keys(config) == keys(expected)
    assert config.is_locked and config.optimizer.is_locked
    with pytest.raises((AttributeError, KeyError)):
        config.batchsize = 3
    with pytest.raises((AttributeError, KeyError)):
        config.optimizer.lr = 3
    with pytest.raises(TypeError):
        config.batch_size = 'many'
    assert config.dataset.name == ('phantom' if variant else 'manifest')
    assert config.splits.train == 'train' and config.splits.val == 'val'


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_unknown_variants(path):
    with pytest.raises(InputError, match=r"unknown variant 'demmo'; the only one is :demo"):
        load(path, 'demmo')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_the_command_in_each_docstring_names_its_file(path):
    assert f'--config=configs/{path.name}' in path.read_text().split('"""')[1]


@pytest.mark.parametrize('key', CONTRACT)
def test_contract(key):
    assert key in keys(defaults())


def test_a_manifest_overrides_the_phantom():
    config = load(CONFIGS[0], 'demo')
    config.dataset.manifest = 'table.csv'
    assert settle(config).dataset.name == 'manifest'


def with_values(**values):
    config = defaults()
    for key, value in values.items():
        *folders, last = key.split('__')
        functools.reduce(lambda part, name: part[name], folders, config)[last] = value
    return config


@pytest.mark.parametrize('duration', DURATIONS)
@pytest.mark.parametrize('unit', UNITS)
def test_an_override_clears_the_other_units(duration, unit):
    if (duration, unit) == ('total', 'percent'):
        return
    key = f'{duration}_{unit}'
    config = settle(with_values(**{key: 5}), [key])
    present = [other for other in UNITS if config[f'{duration}_{other}'] is not None]
    assert present == [unit] and config[key] == 5


def test_an_override_clears_nothing_else():
    config = settle(
        with_values(total_steps=7, warmup_steps=2), ['total_steps', 'warmup_steps', 'seed']
    )
    expected = {'total_steps': 7, 'warmup_steps': 2, 'total_epochs': None, 'warmup_epochs': None}
    assert {key: config[key] for key in expected} == expected
    assert config.checkpoint_every_percent == 10.0 and config.log_every_steps == 50


def test_two_units_on_the_command_line():
    config = with_values(total_steps=7, total_epochs=2)
    with pytest.raises(InputError, match='found total_steps and total_epochs'):
        settle(config, ['total_steps', 'total_epochs'])


def test_two_units_or_none_in_a_file():
    with pytest.raises(InputError, match='found total_steps and total_epochs'):
        settle(with_values(total_steps=7))
    with pytest.raises(InputError, match='exactly one of warmup_steps, .* found none'):
        settle(with_values(warmup_epochs=None))


@pytest.mark.parametrize(
    'key', ['total_steps', 'total_epochs', 'log_every_steps', 'monitor_every_percent']
)
@pytest.mark.parametrize('value', [0, -1])
def test_durations_are_positive(key, value):
    with pytest.raises(InputError, match=f'{key} must be positive, found {value}'):
        settle(with_values(**{key: value}), [key])


def test_no_warm_up_is_a_warm_up():
    assert steps(settle(with_values(warmup_steps=0), ['warmup_steps']), 'warmup', epoch=10) == 0
    with pytest.raises(InputError, match='warmup_steps must be positive'):
        settle(with_values(warmup_steps=-1), ['warmup_steps'])


def test_a_share_of_the_whole_is_no_whole():
    with pytest.raises(InputError, match='total_percent means nothing'):
        settle(with_values(total_percent=50.0), ['total_percent'])


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('total_steps', 123, 123),
        ('total_epochs', 3, 47),  # 3 x 1000 / 64 = 46.9
        ('total_examples', 1000, 16),  # 15.6
        ('total_examples', 1, 1),  # never 0
        ('warmup_steps', 9, 9),
        ('warmup_epochs', 2, 31),  # 31.25
        ('warmup_examples', 100, 2),  # 1.56
        ('warmup_examples', 1, 0),
        ('warmup_percent', 5.0, 10),  # of 200
        ('warmup_percent', 0.1, 0),
        ('checkpoint_every_steps', 17, 17),
        ('checkpoint_every_epochs', 1, 16),
        ('checkpoint_every_examples', 640, 10),
        ('checkpoint_every_percent', 12.5, 25),
        ('log_every_percent', 0.1, 1),
    ],
)
def test_durations_in_steps(key, value, expected):
    """Epochs of 1000 examples, batches of 64, 200 steps in all."""
    config = settle(with_values(batch_size=64, **{key: value}), [key])
    duration = key.rsplit('_', 1)[0]
    assert steps(config, duration, epoch=1000, total=200) == expected


def test_percent_needs_a_total():
    with pytest.raises(ValueError, match='checkpoint_every_percent'):
        steps(settle(defaults()), 'checkpoint_every', epoch=10)


@pytest.mark.parametrize(
    ('key', 'value', 'hint'),
    [
        ('task', 'contrast', 'did you mean contrastive?'),
        ('dataset__name', 'manifset', 'did you mean manifest?'),
        ('dataset__placement', 'gpu', 'host, device'),
        ('dataset__channels', 4, '0, 1, 3'),
        ('labels__kind', 'multiple', 'did you mean multi?'),
        ('pairing', 'cases', 'did you mean case?'),
        ('model__depth', 51, '18, 34, 50, 101, 152, 200'),
        ('model__stem', 'small', 'standard, small_images'),
        ('model__padding', 'SAME', 'torch, same'),
        ('model__dtype', 'float16', 'did you mean bfloat16?'),
        ('optimizer__name', 'lasr', 'did you mean lars?'),
        ('optimizer__scaling', 'root', 'linear, sqrt, none'),
        ('optimizer__schedule', 'cosin', 'did you mean cosine?'),
        ('select', 'newest', 'best, last'),
        ('aggregate', 'mean', 'probabilities, none'),
    ],
)
def test_choices(key, value, hint):
    with pytest.raises(InputError) as caught:
        settle(with_values(**{key: value}))
    message = str(caught.value)
    assert message.startswith(f'config: {key.replace("__", ".")}={value} is not one of ')
    assert hint in message


@pytest.mark.parametrize(
    ('key', 'values'),
    [
        ('batch_size', [0, -8, 1]),
        ('image_size', [7, 4097]),
        ('views', [1, 65]),
        ('label_fraction', [0.0, 1.01, float('nan')]),
        ('method__temperature', [0.0, -0.1, float('nan')]),
        ('seed', [-1, 2**31]),
        ('model__width', [0.2, 4.1]),
        ('method__projection_layers', [0]),
        ('crop__evaluation', [0.0, 1.1]),
        ('crop__min_object_covered', [-0.1, 1.1, float('nan')]),
        ('monitor__knn_k', [0]),
        ('monitor__max_images', [0]),
        ('keep_checkpoints', [0]),
        ('optimizer__learning_rate', [-0.1, float('nan')]),
        ('optimizer__weight_decay', [-1e-6]),
        ('optimizer__momentum', [-0.1, 1.1]),
        ('augment__jitter_strength', [-1.0]),
        ('augment__jitter_probability', [-0.1, 1.1]),
        ('augment__grey_probability', [-0.1, 1.1]),
        ('augment__blur_probability', [-0.1, 1.1]),
        ('augment__flip_horizontal', [-0.1, 1.1]),
        ('augment__flip_vertical', [-0.1, 1.1]),
        ('augment__rotation_degrees', [-1.0, 181.0]),
        ('dataset__device_size', [-1]),
        ('crop__area', [(0.0, 1.0), (0.5, 0.1), (0.1, 1.1), (0.1,), (0.1, 0.5, 1.0), ('a', 'b')]),
        ('crop__aspect', [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)]),
    ],
)
def test_bounds(key, values):
    for value in values:
        with pytest.raises(InputError) as caught:
            settle(with_values(**{key: value}))
        message = str(caught.value)
        assert message.startswith(f'config: {key.replace("__", ".")}=') and '\n' not in message


@pytest.mark.parametrize(
    ('key', 'values'),
    [
        ('splits__evaluate', ['', '+']),
        ('subgroups', [(1,), ('',)]),
        ('subgroup_edges', [(60, 20), (20, 20), ('a',), (0.5, 1.5), (True,)]),
    ],
)
def test_what_is_judged(key, values):
    for value in values:
        with pytest.raises(InputError, match=f'config: {key.replace("__", ".")}'):
            settle(with_values(**{key: value}))


def test_bounds_of_a_classifier():
    for value in (-0.1, 1.0):
        with pytest.raises(InputError, match=f'method.label_smoothing={value} is outside'):
            settle(with_values(task='supervised', method__label_smoothing=value))


def test_smoothing_is_of_one_label():
    several = {'task': 'supervised', 'labels__kind': 'multi', 'method__label_smoothing': 0.1}
    with pytest.raises(InputError, match='label_smoothing is for labels.kind=single'):
        settle(with_values(**several))


def test_limits_are_allowed():
    settle(with_values(label_fraction=1.0, crop__area=(1.0, 1.0), crop__aspect=(2.0, 3.0), seed=0))


def test_no_crop_may_be_asked_to_cover_more_than_its_largest_area():
    settle(with_values(crop__area=(0.08, 0.3), crop__min_object_covered=0.3))
    with pytest.raises(InputError) as caught:
        settle(with_values(crop__area=(0.01, 0.05), crop__min_object_covered=0.1))
    assert str(caught.value) == (
        'config: crop.min_object_covered=0.1 is above the largest area of a crop, '
        'crop.area=(0.01, 0.05)'
    )


def test_nearest():
    known = keys(defaults())
    assert nearest('batchsize', known) == ', did you mean batch_size?'
    assert nearest('model.dept', known) == ', did you mean model.depth?'
    assert nearest('learning_rate', known) == ', did you mean optimizer.learning_rate?'
    assert nearest('xyzzy', known) == ''


def test_names():
    assert names('train+val') == ('train', 'val')
    assert names(' train + val ') == ('train', 'val')
    assert names('') == names('+') == ()
    assert names('test+val+test') == ('test', 'val')


def test_keys():
    config = ConfigDict({'b': 1, 'a': {'d': 2, 'c': {'e': None}}})
    assert sorted(keys(config)) == ['a.c.e', 'a.d', 'b']


def test_differences():
    ours = {'a': 1, 'b': {'c': 2, 'd': [3]}, 'only': 4}
    theirs = {'a': 1, 'b': {'c': 5, 'd': [3]}, 'other': None}
    assert differences(ours, theirs) == ['b.c=2 (5 there)', 'only=4 (None there)']
