"""From `config.dataset` to a checked table of images."""

import logging

import numpy as np
from ml_collections import ConfigDict

from big_ssl.config import names
from big_ssl.data.images import ImageTable, read_headers
from big_ssl.data.manifest import Manifest, read_manifest
from big_ssl.data.phantom import phantom
from big_ssl.errors import InputError

log = logging.getLogger(__name__)


def open_manifest(config: ConfigDict) -> Manifest:
    """The manifest that the config names; the phantom set is made on first use.

    Raises:
      InputError: as `read_manifest`, or no data set is named.
    """
    dataset = config.dataset
    if dataset.name == 'phantom':
        path = str(phantom(dataset.data_dir))
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
        split_seed=config.splits.seed,
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
    return bool(joined) and all((manifest.split == name).any() for name in names(joined))
