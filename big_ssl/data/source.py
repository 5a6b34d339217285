"""From `config.dataset` to a checked table of images."""

import logging

import numpy as np
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import label_names
from big_ssl.data.images import ImageTable, read_headers
from big_ssl.data.manifest import ALL, Manifest, read_manifest
from big_ssl.data.phantom import phantom
from big_ssl.errors import InputError

log = logging.getLogger(__name__)

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
    """The manifest as it is, its labels unread; raises as `read_manifest`."""
    dataset = config.dataset
    if dataset.name in PHANTOMS:
        path = str(phantom(dataset.data_dir, elsewhere=dataset.name == PHANTOMS[1]))
        log.info('data: the embedded SYNTHETIC phantom set, %s', path)
    elif dataset.manifest:
        path = dataset.manifest
    else:
        raise InputError(
            'config: no data; give --config.dataset.manifest=FILE.csv '
            'or --config.dataset.name=phantom'
        )
    manifest = read_manifest(
        path,
        columns=dict(dataset.columns),
        image_root=dataset.image_root,
        split_seed=None if _reads_all(config) else config.splits.seed,
    )
    for line in manifest.announcements:
        log.warning('%s', line)
    return manifest


def open_images(config: ConfigDict, manifest: Manifest, *rows: np.ndarray) -> ImageTable:
    """Checks the headers of all images among these rows of the manifest.

    Raises:
      InputError: an image is missing or cannot be used.
    """
    return read_headers(manifest, np.unique(np.concatenate(rows)), config.dataset.channels)


def has_split(manifest: Manifest, joined: str) -> bool:
    """Whether each of the '+'-joined splits has rows."""
    if joined == ALL:
        return True
    return bool(joined) and all((manifest.split == name).any() for name in config_lib.names(joined))


def _reads_all(config: ConfigDict) -> bool:
    trained = config.task in ('contrastive', 'supervised') or config.classifier != 'trained'
    return not trained and config_lib.names(config.splits.evaluate) == (ALL,)
