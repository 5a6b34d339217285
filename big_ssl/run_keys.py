"""Every key of a run's config: its default, what it means, and what it may be.

`config.method` has the keys of its method besides, which `methods/NAME.py` gives, and
`config.model` those of its backbone (`models/NAME/`).
"""

import math

from big_ssl.keys import Key

PRETRAINING, FINETUNING = 'contrastive', 'supervised'
DATASETS = ('manifest', 'records', 'phantom', 'phantom_elsewhere')
DURATIONS = ('total', 'warmup', 'checkpoint_every', 'monitor_every', 'log_every')
UNITS = ('steps', 'epochs', 'examples', 'percent')

_DATA = {
    'dataset.name': Key(
        'manifest', "of big_ssl.prepare, tfds:NAME, or synthetic", choices=(*DATASETS, 'tfds:NAME')
    ),
    'dataset.manifest': Key(None, 'CSV, TSV or Parquet, a row an image', kind=str),
    'dataset.data_dir': Key(None, 'of records, of TFDS, of phantom', kind=str),
    'dataset.image_root': Key(None, "of relative paths; default: the manifest's folder", kind=str),
    'dataset.placement': Key(
        'host', 'files are read as they are needed, or all images lie on the device',
        choices=('host', 'device'),
    ),
    'dataset.device_size': Key(
        0, 'placement=device: stored side in pixels; 0: twice image_size', 0, 8192
    ),
    'dataset.channels': Key(
        0, 'on the host; 0: grey stays grey until it is on the device', choices=(0, 1, 3)
    ),
    'dataset.window': Key('', 'of 16-bit images: LOW,HIGH (become black, white), full, minmax'),
    **{
        f'dataset.columns.{name}': Key(name, "the manifest's own name for this column")
        for name in ('image_path', 'case_id', 'patient_id', 'label', 'split')
    },
    'splits.train': Key('train', "names of splits, several joined by '+'"),
    'splits.val': Key('val', 'monitors, and picks the checkpoint of a classifier'),
    'splits.evaluate': Key('test', 'what is judged; all: every row, whatever its split'),
    'splits.seed': Key(0, "of the split made where the manifest has none; not a run's seed"),
    'labels.kind': Key(
        'single', "one class a case, or any number, joined by '|'", choices=('single', 'multi')
    ),
    'labels.negative': Key('', 'kind=multi: the label that means none of the classes'),
    'labels.classes': Key((), 'in the order of the scores; (): those of the training labels'),
    'labels.map': Key(
        '', 'label names to classes: a CSV with columns label and class, or scin'
    ),
    'labels.other': Key('', "class of all other labels; ignore: left out; '': an error"),
    'labels.uncertain': Key(
        'ignore', 'kind=multi: LABEL? in training',
        choices=('ignore', 'zeros', 'ones', 'own_class'),
    ),
    'labels.val': Key(
        'alike', 'with a label_fraction: val is reduced alike, or full', choices=('alike', 'full')
    ),
    'label_fraction': Key(
        1.0, 'of the training patients (cases where no patient is known)', 1e-9, 1
    ),
    'label_seed': Key(0, 'which draw of them'),
}  # fmt: skip
_DURATIONS = {
    f'{name}_{unit}': Key(
        None, f'one unit of {name} is set', kind=float if unit == 'percent' else int
    )
    for name in DURATIONS
    for unit in UNITS
} | {
    'total_epochs': Key(100, 'length of the training', kind=int),
    'warmup_epochs': Key(10, 'in which the rate rises', kind=int),
    'checkpoint_every_percent': Key(10.0, 'of the training', kind=float),
    'monitor_every_percent': Key(10.0, 'of the training', kind=float),
    'log_every_steps': Key(50, 'a line of numbers', kind=int),
    'keep_checkpoints': Key(2, 'the newest ones; the best on validation is kept besides', 1, 10**6),
}
_VIEWS = {
    'pairing': Key(
        'augment', 'crops of one image, or distinct images of a case', choices=('augment', 'case')
    ),
    'views': Key(2, 'of an example', 1, 64),
    'batch_size': Key(512, 'global, in examples', 1),
    'chunks': Key(
        1, 'of a batch larger than memory: parts one after the other, with the gradient of the '
        'whole under batch statistics of each (GradCache)', 1,
    ),
    'image_size': Key(224, 'pixels', 8, 4096),
    'crop.area': Key((0.08, 1.0), 'share of the image'),
    'crop.aspect': Key((0.75, 4 / 3), 'width over height'),
    'crop.min_object_covered': Key(
        0.0, 'share of the image below which a crop is drawn again', 0, 1
    ),
    'crop.evaluation': Key(0.875, 'centre crop, share of the shorter side', 0.01, 1),
    'augment.jitter_strength': Key(1.0, 'of the colours', 0, 10),
    'augment.jitter_probability': Key(0.8, 'of the colour jitter', 0, 1),
    'augment.grey_probability': Key(0.2, 'of no colour', 0, 1),
    'augment.blur_probability': Key(0.5, 'of a Gaussian blur', 0, 1),
    'augment.flip_horizontal': Key(0.5, 'probability', 0, 1),
    'augment.flip_vertical': Key(0.0, 'probability', 0, 1),
    'augment.rotation_degrees': Key(0.0, 'at most, either way', 0, 180),
}  # fmt: skip
_MODEL = {
    'model.name': Key(
        'resnet', 'a folder of big_ssl/models, a network of one (resnet152x2, vit_s16), or a '
        'module of your own',
    ),
    'model.batch_norm': Key(
        'batch', 'its statistics, or those of init_from, kept', choices=('batch', 'frozen')
    ),
    'model.dtype': Key(
        'auto', 'bfloat16 on accelerators', choices=('auto', 'float32', 'bfloat16')
    ),
    'init_from': Key(
        None, "a workdir, or weights of others: .safetensors, .pth, .npz, TensorFlow's", kind=str
    ),
    'init_prefix': Key(None, 'of names, where that holds several networks', kind=str),
    'init_normalization': Key(
        'auto', 'of images in [0, 1]: as init_from needs it; mean and deviation of ImageNet; to '
        '[-1, 1] (symmetric)', choices=('auto', 'none', 'imagenet', 'symmetric'),
    ),
    'compute.remat': Key(
        'none', 'less memory: norms, or whole blocks, again in the backward pass',
        choices=('none', 'norms', 'blocks'),
    ),
    'compute.scan_blocks': Key(False, 'compile the equal blocks of a stage once'),
    'compute.watchdog_seconds': Key(
        600.0, 'without a step: a warning with all stacks; 0: never', 0
    ),
    'compute.profile_steps': Key(0, 'so many steps are profiled for TensorBoard', 0, 10_000),
    'compute.shard': Key(
        'none', "over the devices: the optimiser's state, or all parameters too",
        choices=('none', 'optimizer', 'all'),
    ),
}  # fmt: skip
_OPTIMIZER = {
    'optimizer.name': Key('lars', 'adam is AdamW', choices=('lars', 'sgd', 'adam')),
    'optimizer.learning_rate': Key(0.3, 'of a batch of 256, with scaling', 0),
    'optimizer.scaling': Key(
        'linear', 'times batch / 256, or times its root', choices=('linear', 'sqrt', 'none')
    ),
    'optimizer.schedule': Key('cosine', 'after the warm-up', choices=('cosine', 'constant')),
    'optimizer.momentum': Key(0.9, 'of LARS and SGD; of Adam its b1', 0, 1),
    'optimizer.nesterov': Key(False, 'sgd: the momentum looks ahead'),
    'optimizer.weight_decay': Key(1e-6, 'of kernels alone', 0),
}
_EVALUATION = {
    'select': Key(
        'best', 'of a classifier, the checkpoint that is judged', choices=('best', 'last')
    ),
    'classifier': Key(
        'trained', 'task=evaluate: that of init_from, or one of its frozen features',
        choices=('trained', 'linear_probe', 'knn'),
    ),
    'aggregate': Key(
        'probabilities', "image scores to a case's, by their mean",
        choices=('probabilities', 'none'),
    ),
    'subgroups': Key((), 'columns of the manifest; figures are given for each of their values'),
    'subgroup_edges': Key((20, 40, 60, 80), 'cut columns of numbers, such as an age in years'),
    'monitor.knn_k': Key(20, 'neighbours', 1, 10**6),
    'monitor.max_images': Key(5000, 'of the bank (train), and of the query (val)', 1, math.inf),
}  # fmt: skip
KEYS = {
    'task': Key(
        PRETRAINING, 'what is done',
        choices=(PRETRAINING, FINETUNING, 'evaluate', 'predict', 'embed'),
    ),
    'method.name': Key('simclr', 'a file of big_ssl/methods, or a module of your own'),
    'seed': Key(0, 'of weights, order and augmentation', 0, 2**31 - 1),
    **_DATA,
    **_DURATIONS,
    **_VIEWS,
    **_MODEL,
    **_OPTIMIZER,
    **_EVALUATION,
}  # fmt: skip
