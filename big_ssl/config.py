"""The settings every run has, their defaults, and the rules that hold between them.

A file in `configs/` starts from `defaults()` and changes what its experiment needs. The dictionary
is locked: a key that is not below does not exist.
"""

import difflib
import functools
import logging
import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict, config_dict

from big_ssl import earlier_configs, methods
from big_ssl.errors import InputError

log = logging.getLogger(__name__)

DURATIONS = ('total', 'warmup', 'checkpoint_every', 'monitor_every', 'log_every')
UNITS = ('steps', 'epochs', 'examples', 'percent')
DATASETS = ('manifest', 'records', 'phantom', 'phantom_elsewhere')
PRETRAINING, FINETUNING = 'contrastive', 'supervised'
TRAINING = {PRETRAINING: 'simclr', FINETUNING: 'classify'}  # and the method that is usual for it
TASKS = (*TRAINING, 'evaluate', 'predict', 'embed')
# Weights fit only what has the same; a run that trains nothing takes it over from their training.
OF_ENCODER = ('model.backbone', 'model.depth', 'model.width', 'model.stem', 'model.padding',
              'init_normalization')  # fmt: skip
OF_IMAGES = ('image_size', 'crop.evaluation', 'dataset.channels')
OF_CLASSIFIER = ('labels.kind', 'labels.negative', 'aggregate')
# Keys that are 'auto' until it is known what the weights of init_from need; the first is that of
# a network from scratch.
AUTO = {
    'model.padding': ('torch', 'same', 'simclr'),
    'init_normalization': ('none', 'imagenet', 'symmetric'),
}
FROM_SCRATCH = {key: choices[0] for key, choices in AUTO.items()}


class Settings(ConfigDict):
    """The settings of a run.

    `task` brings the method that is usual for it, unless the one at hand is of that kind. A config
    file of an earlier version may set keys that no longer exist or have another name: a line says
    so.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        if key in earlier_configs.RETIRED:
            _say(earlier_configs.RETIRED[key])
        elif key in earlier_configs.RENAMED:
            name = earlier_configs.RENAMED[key]
            _say(f'{key} is called {name} now')
            self.update_from_flattened_dict({name: value})
        else:
            super().__setitem__(key, value)
            if key == 'task' and 'method' in self and value in TRAINING:
                self._bring_method(value)

    def _bring_method(self, task: str) -> None:
        if task != method_of(self).TASK:
            self.method.name = TRAINING[task]


class MethodSettings(ConfigDict):
    """`name`, and the keys that the module of that method has: another name brings others."""

    def __setitem__(self, key: str, value: Any) -> None:
        if key != 'name' or value == self.get('name'):
            super().__setitem__(key, value)
            return
        own = {name: about.default for name, about in methods.load(value).KEYS.items()}
        with self.unlocked():
            for name in list(self):
                del self[name]
            for name, default in {'name': value, **own}.items():
                super().__setitem__(name, default)


class ModelSettings(ConfigDict):
    """Keys of the network. Those that moved to the method are set there (in a config file)."""

    def __init__(self, run: Settings | None = None) -> None:
        super().__init__()
        object.__setattr__(self, '_run', run)

    def __setitem__(self, key: str, value: Any) -> None:
        if (name := f'model.{key}') in earlier_configs.RENAMED and self._run is not None:
            self._run[name] = value
        else:
            super().__setitem__(key, value)


@functools.cache  # a study reads a file for each of its runs
def _say(line: str) -> None:
    log.warning('config: %s', line)


def method_of(config: Mapping[str, Any]) -> ModuleType:
    """The module of the config's method; raises InputError where there is none."""
    return methods.load(config['method']['name'])


def defaults() -> ConfigDict:
    """Every key with its default; `None` marks a key without one."""
    config = Settings()
    config.task = PRETRAINING  # contrastive | supervised | evaluate | predict | embed
    config.method = MethodSettings()
    config.method.name = TRAINING[PRETRAINING]  # see big_ssl/methods
    config.seed = 0
    _add_data(config)
    _add_durations(config)
    _add_views(config)
    _add_model(config)
    _add_optimizer(config)
    _add_evaluation(config)
    return config.lock()


def _add_data(config: ConfigDict) -> None:
    config.dataset = ConfigDict()
    # manifest | records (of big_ssl.prepare) | tfds:NAME | phantom, phantom_elsewhere (synthetic)
    config.dataset.name = 'manifest'
    config.dataset.manifest = config_dict.placeholder(str)  # CSV, TSV or Parquet, one row an image
    config.dataset.data_dir = config_dict.placeholder(str)  # of records, of TFDS, of phantom
    config.dataset.image_root = config_dict.placeholder(str)  # default: the manifest's folder
    config.dataset.placement = (
        'host'  # host: files are read as they are needed | device: all images lie on the device
    )
    config.dataset.device_size = 0  # placement=device: stored side in pixels; 0 = twice image_size
    config.dataset.channels = 0  # 1 | 3 on the host; 0: grey stays grey until it is on the device
    config.dataset.window = ''  # of 16-bit images: LOW,HIGH (become black, white) | full | minmax
    config.dataset.columns = ConfigDict()  # the manifest's own names for its columns
    for column in ('image_path', 'case_id', 'patient_id', 'label', 'split'):
        config.dataset.columns[column] = column

    config.splits = ConfigDict()  # names of splits, several joined by '+'
    config.splits.train = 'train'
    config.splits.val = 'val'
    config.splits.evaluate = 'test'  # all: every row, whatever its split
    config.splits.seed = 0  # of the split made where the manifest has none; not a run's seed

    config.labels = ConfigDict()
    config.labels.kind = 'single'  # single: one class a case | multi: any number, joined by '|'
    config.labels.negative = ''  # multi: the label that means none of the classes
    config.labels.classes = ()  # in the order of the scores; (): those of the training labels
    config.labels.map = ''  # label names to classes: a CSV with columns label and class, or scin
    config.labels.other = ''  # class of all other labels; ignore: left out; '': an error
    config.labels.uncertain = 'ignore'  # multi: LABEL? in training: zeros | ones | own_class
    config.labels.val = 'alike'  # with a label_fraction: val is reduced alike | full
    config.label_fraction = 1.0  # of the training patients (cases where no patient is known)
    config.label_seed = 0  # which draw of them


def _add_durations(config: ConfigDict) -> None:
    for name in DURATIONS:
        for unit in UNITS:
            config[f'{name}_{unit}'] = config_dict.placeholder(float if unit == 'percent' else int)
    config.total_epochs = 100
    config.warmup_epochs = 10
    config.checkpoint_every_percent = 10.0
    config.monitor_every_percent = 10.0
    config.log_every_steps = 50
    config.keep_checkpoints = 2  # the newest ones; the best on validation is kept besides


def _add_views(config: ConfigDict) -> None:
    config.pairing = 'augment'  # augment: crops of one image | case: distinct images of a case
    config.views = 2
    config.batch_size = 512  # global, in examples (each has `views` views)
    # A batch larger than memory: so many parts one after the other, the gradient that of the whole
    # (GradCache) under batch statistics of each part; exactly, with model.batch_norm=frozen.
    config.chunks = 1
    config.image_size = 224  # pixels

    config.crop = ConfigDict()
    config.crop.area = (0.08, 1.0)  # share of the image
    config.crop.aspect = (0.75, 4 / 3)  # width over height
    config.crop.min_object_covered = 0.0  # share of the image below which a crop is drawn again
    config.crop.evaluation = 0.875  # centre crop, share of the shorter side
    config.augment = ConfigDict()
    config.augment.jitter_strength = 1.0
    config.augment.jitter_probability = 0.8
    config.augment.grey_probability = 0.2
    config.augment.blur_probability = 0.5
    config.augment.flip_horizontal = 0.5
    config.augment.flip_vertical = 0.0
    config.augment.rotation_degrees = 0.0


def _add_model(config: Settings) -> None:
    config.model = ModelSettings(config)
    config.model.backbone = 'resnet'  # resnet | bit: ResNet-v2 with group normalisation
    config.model.depth = 50  # 18 | 34 | 50 | 101 | 152 | 200
    config.model.width = 1.0  # 0.25 to 4
    config.model.stem = 'standard'  # standard | small_images (64 px and below)
    # auto: as init_from needs it | torch: symmetric | same: TensorFlow's | simclr: some of each
    config.model.padding = 'auto'
    config.model.batch_norm = 'batch'  # batch: its statistics | frozen: those of init_from, kept
    config.model.dtype = 'auto'  # auto: bfloat16 on accelerators | float32 | bfloat16
    # A workdir of big_ssl, or weights of others: .safetensors, .pth, .npz, TensorFlow's (README)
    config.init_from = config_dict.placeholder(str)
    config.init_prefix = config_dict.placeholder(str)  # of names, where that holds several networks
    # Of images in [0, 1]. auto: as init_from needs it | none | imagenet (mean and deviation) |
    # symmetric (to [-1, 1])
    config.init_normalization = 'auto'
    # How it is computed, not what: results agree to rounding, and a run goes on with other values.
    config.compute = ConfigDict()
    config.compute.remat = 'none'  # less memory: norms (again in the backward pass) | blocks
    config.compute.scan_blocks = False  # compile the equal blocks of a stage once
    config.compute.watchdog_seconds = 600.0  # without a step: a warning with all stacks; 0: never
    config.compute.profile_steps = 0  # so many steps are profiled for TensorBoard
    config.compute.shard = 'none'  # over the devices: optimizer (its state) | all (parameters too)


def _add_optimizer(config: ConfigDict) -> None:
    config.optimizer = ConfigDict()
    config.optimizer.name = 'lars'  # lars | sgd | adam
    config.optimizer.learning_rate = 0.3
    config.optimizer.scaling = 'linear'  # linear: x batch/256 | sqrt: x sqrt(batch) | none
    config.optimizer.schedule = 'cosine'  # cosine | constant, both after the warm-up
    config.optimizer.momentum = 0.9
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 1e-6


def _add_evaluation(config: ConfigDict) -> None:
    config.select = 'best'  # supervised: evaluate the checkpoint best on validation | last
    config.classifier = 'trained'  # evaluate: that of init_from | linear_probe | knn
    config.aggregate = 'probabilities'  # image scores to a case's: probabilities (mean) | none
    config.subgroups = ()  # columns of the manifest; figures are given for each of their values
    config.subgroup_edges = (20, 40, 60, 80)  # cut columns of numbers, such as an age in years
    config.monitor = ConfigDict()
    config.monitor.knn_k = 20
    config.monitor.max_images = 5000  # of the bank (train), and of the query (val)


def keys(config: Mapping[str, Any], prefix: str = '') -> list[str]:
    """Dotted names of all leaves."""
    found: list[str] = []
    for key, value in config.items():
        nested = isinstance(value, ConfigDict | dict)
        found += keys(value, f'{prefix}{key}.') if nested else [prefix + key]
    return found


def get(config: Mapping[str, Any], dotted: str) -> Any:
    """The value of a dotted name, as from `keys`."""
    for key in dotted.split('.'):
        config = config[key]
    return config


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every leaf by its dotted name, of a config or of the plain dictionary that it becomes."""
    return {key: get(config, key) for key in keys(config)}


def settled(config: ConfigDict, key: str) -> Any:
    """The value of a key of AUTO; where it is still open, that of a network from scratch."""
    return FROM_SCRATCH[key] if (value := get(config, key)) == 'auto' else value


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the known key that looks most like `name`, or nothing."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not found:
        last = name.rsplit('.', 1)[-1]
        found = [key for key in known if key.rsplit('.', 1)[-1] == last][:1]
    return f', did you mean {found[0]}?' if found else ''


def settle(config: ConfigDict, overridden: Iterable[str] = ()) -> ConfigDict:
    """The config with its rules applied; `overridden` are the keys given on the command line.

    Raises:
      InputError: two units for one duration, or a value outside its choices.
    """
    overridden = set(overridden)
    for name in DURATIONS:
        _one_unit(config, name, overridden)
    if config.dataset.manifest:
        config.dataset.name = 'manifest'
    _check_choices(config)
    _check_backbone(config)
    _check_numbers(config)
    _check_judged(config)
    if config.task in TRAINING:
        _check_method(config)
    return config


def _check_method(config: ConfigDict) -> None:
    """By what its module says."""
    method, name = method_of(config), config.method.name
    if config.task != method.TASK:
        raise InputError(
            f'config: method.name={name} is for task={method.TASK}, not for task={config.task}'
        )
    for key, about in method.KEYS.items():
        about.check(f'method.{key}', config.method[key])
    getattr(method, 'check', lambda config: None)(config)


def _one_unit(config: ConfigDict, name: str, overridden: set[str]) -> None:
    siblings = [f'{name}_{unit}' for unit in UNITS]
    given = [key for key in siblings if key in overridden and config[key] is not None]
    if given:
        for key in set(siblings) - set(given):
            config[key] = None
    present = [key for key in siblings if config[key] is not None]
    if len(present) != 1:
        found = ' and '.join(present) if present else 'none'
        raise InputError(f'config: exactly one of {", ".join(siblings)} must be set, found {found}')
    if config[present[0]] < 0 or (name != 'warmup' and config[present[0]] == 0):
        raise InputError(f'config: {present[0]} must be positive, found {config[present[0]]}')
    if present == ['total_percent']:
        raise InputError('config: total_percent means nothing, use total_steps or total_epochs')


def _check_judged(config: ConfigDict) -> None:
    """What is judged, and in which groups."""
    if not names(config.splits.evaluate):
        raise InputError('config: splits.evaluate is empty; name a split, or all')
    if not all(isinstance(column, str) and column for column in config.subgroups):
        raise InputError(f'config: subgroups={config.subgroups} must be names of columns')
    edges = config.subgroup_edges
    if not all(type(edge) is int for edge in edges) or list(edges) != sorted(set(edges)):
        raise InputError(f'config: subgroup_edges={edges} must be ascending whole numbers')


def _check_choices(config: ConfigDict) -> None:
    choices: dict[str, tuple[Any, ...]] = {
        'task': TASKS,
        'dataset.placement': ('host', 'device'),
        'dataset.channels': (0, 1, 3),
        'labels.kind': ('single', 'multi'),
        'labels.uncertain': ('ignore', 'zeros', 'ones', 'own_class'),
        'labels.val': ('alike', 'full'),
        'pairing': ('augment', 'case'),
        'model.depth': (18, 34, 50, 101, 152, 200),
        'model.stem': ('standard', 'small_images'),
        'model.backbone': ('resnet', 'bit'),
        **{key: ('auto', *allowed) for key, allowed in AUTO.items()},
        'model.batch_norm': ('batch', 'frozen'),
        'model.dtype': ('auto', 'float32', 'bfloat16'),
        'compute.remat': ('none', 'norms', 'blocks'),
        'compute.shard': ('none', 'optimizer', 'all'),
        'optimizer.name': ('lars', 'sgd', 'adam'),
        'optimizer.scaling': ('linear', 'sqrt', 'none'),
        'optimizer.schedule': ('cosine', 'constant'),
        'select': ('best', 'last'),
        'classifier': ('trained', 'linear_probe', 'knn'),
        'aggregate': ('probabilities', 'none'),
    }
    name = config.dataset.name
    is_folder = config.dataset.data_dir or '/' in name  # of records, by whatever name
    if not is_folder and not name.startswith('tfds:'):
        choices['dataset.name'] = (*DATASETS, 'tfds:NAME')
    for key, allowed in choices.items():
        value = get(config, key)
        if value not in allowed:
            hint = nearest(value, allowed) if isinstance(value, str) else ''
            listed = ', '.join(map(str, allowed))
            raise InputError(f'config: {key}={value} is not one of {listed}{hint}')


def _check_backbone(config: ConfigDict) -> None:
    """What a BiT cannot be."""
    if config.model.backbone != 'bit':
        return
    wrong = [
        f'{key}={get(config, key)}'
        for key, right in (
            ('model.depth', get(config, 'model.depth') in (50, 101, 152)),
            ('model.width', get(config, 'model.width') % 0.5 == 0),  # 32 groups of channels
            ('model.stem', config.model.stem == 'standard'),
            ('model.padding', config.model.padding in ('auto', 'torch')),
        )
        if not right
    ]
    if wrong:
        raise InputError(
            f'config: model.backbone=bit cannot have {", ".join(wrong)}; it has depth 50, 101 or '
            '152, a width of 0.5, 1, 1.5 …, stem=standard and padding=torch'
        )


def _check_numbers(config: ConfigDict) -> None:
    bounds = {
        'batch_size': (1, math.inf),
        'chunks': (1, math.inf),
        'image_size': (8, 4096),
        'views': (1, 64),
        'label_fraction': (1e-9, 1),
        'seed': (0, 2**31 - 1),
        'model.width': (0.25, 4),
        'crop.evaluation': (0.01, 1),
        'crop.min_object_covered': (0, 1),
        'monitor.knn_k': (1, 10**6),
        'monitor.max_images': (1, math.inf),
        'keep_checkpoints': (1, 10**6),
        'optimizer.learning_rate': (0, math.inf),
        'optimizer.weight_decay': (0, math.inf),
        'optimizer.momentum': (0, 1),
        'augment.jitter_strength': (0, 10),
        'augment.rotation_degrees': (0, 180),
        'dataset.device_size': (0, 8192),
        'compute.watchdog_seconds': (0, math.inf),
        'compute.profile_steps': (0, 10_000),
    } | {
        f'augment.{name}': (0, 1)
        for name in (
            'jitter_probability',
            'grey_probability',
            'blur_probability',
            'flip_horizontal',
            'flip_vertical',
        )
    }
    for key, (low, high) in bounds.items():
        if not low <= get(config, key) <= high:
            raise InputError(f'config: {key}={get(config, key)} is outside [{low:g}, {high:g}]')
    for key in ('crop.area', 'crop.aspect'):
        pair = get(config, key)
        numbers = len(pair) == 2 and all(isinstance(side, int | float) for side in pair)
        if not numbers or not 0 < pair[0] <= pair[1] or (key == 'crop.area' and pair[1] > 1):
            raise InputError(f'config: {key}={pair} is not a valid range (LOW, HIGH)')
    if config.crop.min_object_covered > config.crop.area[1]:
        raise InputError(
            f'config: crop.min_object_covered={config.crop.min_object_covered} is above the '
            f'largest area of a crop, crop.area={config.crop.area}'
        )


def steps(config: ConfigDict, name: str, *, epoch: int, total: int | None = None) -> int:
    """The duration `name` in steps, at least 1 (a warm-up may be 0).

    Args:
      config: a settled config.
      name: one of `DURATIONS`.
      epoch: examples in an epoch.
      total: steps of the whole run, for `_percent`.
    """
    value, unit = next(
        (config[f'{name}_{unit}'], unit) for unit in UNITS if config[f'{name}_{unit}'] is not None
    )
    if unit == 'percent':
        if total is None:
            raise ValueError(f'{name}_percent needs the total number of steps')
        count = value / 100 * total
    else:
        per_step = {
            'steps': 1,
            'epochs': epoch / config.batch_size,
            'examples': 1 / config.batch_size,
        }[unit]
        count = value * per_step
    return max(round(count), 0 if name == 'warmup' else 1)


def names(joined: str) -> tuple[str, ...]:
    """`'train+val'` → `('train', 'val')`, each once."""
    return tuple(dict.fromkeys(part.strip() for part in joined.split('+') if part.strip()))


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = '') -> list[str]:
    """`key=ours (theirs there)` for each key in which two nested plain dictionaries differ."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f'{prefix}{key}.')
        elif a != b:
            found.append(f'{prefix}{key}={a} ({b} there)')
    return found
