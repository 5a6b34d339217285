"""From `config.dataset` to a checked table of images, and to the images themselves."""

import logging

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import label_names, records, text, windows
from big_ssl.data.images import ImageTable, read_headers
from big_ssl.data.manifest import ALL, Manifest, read_manifest
from big_ssl.data.phantom import phantom
from big_ssl.errors import InputError

log = logging.getLogger(__name__)

TFDS = 'tfds:'
PHANTOMS = ('phantom', 'phantom_elsewhere')


def open_manifest(config: ConfigDict, classes: tuple[str, ...] = ()) -> Manifest:
    """The manifest that the config names, its labels in the task's names.

    The phantom set is made on first use. Where `splits.evaluate` is all that is read, and is `all`,
    the splits do not matter and none is made.

    Args:
      classes: of a trained model that is to be applied.

    Raises:
      InputError: as `read_manifest` and `label_names`, or no data set is named.
    """
    names = label_names.names_of(config.labels, classes)
    return label_names.rename(open_table(config), names)


def open_table(config: ConfigDict) -> Manifest:
    """The manifest as it is, its labels unread; raises as `read_manifest` and `open_records`."""
    dataset = config.dataset
    seed = None if _reads_all(config) else config.splits.seed
    if dataset.name.startswith(TFDS):
        from big_ssl.data.tfds_sets import open_tfds  # imports TensorFlow Datasets

        name = dataset.name.removeprefix(TFDS)
        manifest = open_tfds(name, dataset.data_dir, dict(dataset.columns), seed)
    elif folder := record_folder(config):
        manifest = records.open_records(folder, dict(dataset.columns), seed)
    elif dataset.name in PHANTOMS or dataset.manifest:
        manifest = read_manifest(
            _table_of(dataset),
            columns=dict(dataset.columns),
            image_root=dataset.image_root,
            split_seed=seed,
        )
    else:
        raise InputError(
            'config: no data; give --config.dataset.manifest=FILE.csv, or '
            '--config.dataset.name=records and --config.dataset.data_dir=DIR of big_ssl.prepare, '
            'or --config.dataset.name=phantom'
        )
    text.give_back()
    for line in manifest.announcements:
        log.warning('%s', line)
    return manifest


def open_images(config: ConfigDict, manifest: Manifest, *rows: np.ndarray) -> ImageTable:
    """Checks the headers of all images among these rows of the manifest.

    Raises:
      InputError: an image is missing or cannot be used.
    """
    wanted = np.unique(np.concatenate(rows))
    asked = config.dataset.window
    window = windows.parse(asked, 'config: dataset.window') if asked else None
    return read_headers(manifest, wanted, config.dataset.channels, window)


def record_folder(config: ConfigDict) -> str:
    """The record set that `dataset.name` and `dataset.data_dir` mean, or ''.

    `data_dir` is its folder, or the folder in which it is called `name`.

    Raises:
      InputError: there is none.
    """
    dataset = config.dataset
    if dataset.manifest or dataset.name in (*PHANTOMS, 'manifest') and not dataset.data_dir:
        return ''
    if dataset.name in PHANTOMS:
        if records.is_record_set(dataset.data_dir):
            raise InputError(
                f'config: dataset.data_dir={dataset.data_dir} is a record set; give '
                f'--config.dataset.name=records too (it is {dataset.name})'
            )
        return ''
    inside = epath.Path(dataset.data_dir or '.') / dataset.name
    found = [str(inside), dataset.data_dir or '']
    for folder in filter(None, found):
        if records.is_record_set(folder):
            return folder
    raise InputError(
        f'config: dataset.name={dataset.name}: no complete record set in '
        f'{" or ".join(filter(None, found))}; big_ssl.prepare makes one'
    )


def _table_of(dataset: ConfigDict) -> str:
    if dataset.name not in PHANTOMS:
        return dataset.manifest
    path = str(phantom(dataset.data_dir, elsewhere=dataset.name == PHANTOMS[1]))
    log.info('data: the embedded SYNTHETIC phantom set, %s', path)
    return path


def has_split(manifest: Manifest, joined: str) -> bool:
    """Whether each of the '+'-joined splits has rows."""
    if joined == ALL:
        return True
    return bool(joined) and all((manifest.split == name).any() for name in config_lib.names(joined))


def _reads_all(config: ConfigDict) -> bool:
    trained = config.task in config_lib.TRAINING or config.classifier != 'trained'
    return not trained and config_lib.names(config.splits.evaluate) == (ALL,)
