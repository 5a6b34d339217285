"""What a config trains on: which units are drawn, and the facts that go with their images."""

import logging

import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import cases, label_names, labels
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.data.sampler import Sampler
from big_ssl.errors import InputError

log = logging.getLogger(__name__)


def unlabelled(config: ConfigDict, manifest: Manifest, rows: Int[np.ndarray, ' n']) -> Sampler:
    """Draws pairs for pre-training: of cases with `pairing=case`, of images with `augment`."""
    units = make_units(config, manifest, rows)
    return Sampler(units, config.seed, config.batch_size, config.views)


def make_units(config: ConfigDict, manifest: Manifest, rows: Int[np.ndarray, ' n']) -> cases.Units:
    """Cases for `pairing=case`, images for `pairing=augment`.

    Raises:
      InputError: no case has two images.
    """
    if config.pairing == 'augment':
        return cases.units_of_images(manifest, rows)
    units = cases.units_of_cases(manifest, rows)
    several = int((np.diff(units.offsets) > 1).sum())
    log.info('%d cases, %d of them with two or more images', len(units), several)
    if not several:
        raise InputError(
            f'{manifest.path}: pairing=case, but no case has two images; is column '
            f'{config.dataset.columns.case_id!r} the case? (--config.pairing=augment is SimCLR)'
        )
    return units


def labelled(
    config: ConfigDict, manifest: Manifest, rows: Int[np.ndarray, ' n'], task: Task
) -> tuple[Sampler, dict[str, np.ndarray]]:
    """Draws one image a case for fine-tuning, every case equally often; and `targets` by row."""
    by_case = config.aggregate != 'none'
    units = (cases.units_of_cases if by_case else cases.units_of_images)(manifest, rows)
    known = labels.encode(manifest, rows, task, config.labels.uncertain)
    targets = np.zeros((len(manifest), *known.shape[1:]), known.dtype)
    targets[rows] = known
    return Sampler(units, config.seed, config.batch_size, views=1), {'targets': targets}


def learnt(config: ConfigDict, manifest: Manifest) -> tuple[Int[np.ndarray, ' n'], Task]:
    """All labelled rows of `splits.train` and the task they make; raises as `labels.find_task`."""
    rows = labels.labelled(manifest, manifest.rows(config_lib.names(config.splits.train)))
    task = labels.find_task(
        manifest,
        rows,
        config.labels.kind,
        config.labels.negative,
        classes=label_names.names_of(config.labels).classes,
        uncertain=config.labels.uncertain,
    )
    return rows, task
