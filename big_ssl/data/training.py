"""What a config trains on: which units are drawn, and the facts that go with their images."""

import dataclasses
import logging
from collections.abc import Mapping

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


@dataclasses.dataclass(frozen=True)
class Examples:
    """What a method trains on.

    Attributes:
      rows: of the manifest, the training images.
      sampler: which of them a batch is made of.
      by_image: facts of each row of the manifest, by name; a batch has them of its first views.
      task: the classes, where the method is given labels.
    """

    rows: Int[np.ndarray, ' n']
    sampler: Sampler
    by_image: Mapping[str, np.ndarray]
    task: Task | None


def examples(config: ConfigDict, manifest: Manifest, labels_wanted: str) -> Examples:
    """Those of a method that wants 'none', 'some' or 'all' labels."""
    if labels_wanted == 'all':
        return labelled(config, manifest, *learnt_share(config, manifest))
    return unlabelled(config, manifest, labels_wanted)


def unlabelled(config: ConfigDict, manifest: Manifest, labels_wanted: str = 'none') -> Examples:
    """Pairs for pre-training: of cases with `pairing=case`, of images with `augment`.

    With `labels_wanted='some'` their class numbers, int32, are `targets`: -1 where none is known,
    or where `label_fraction` leaves it out.
    """
    rows = trained_rows(config, manifest)
    units = make_units(config, manifest, rows)
    sampler = Sampler(units, config.seed, config.batch_size, config.views)
    if labels_wanted == 'none':
        return Examples(rows, sampler, {}, None)
    known, task = learnt_share(config, manifest)
    targets = np.full(len(manifest), -1, np.int32)
    targets[known] = labels.encode(manifest, known, task)
    log.info('%d of %d training images have a label', len(known), len(rows))
    return Examples(rows, sampler, {'targets': targets}, task)


def trained_rows(config: ConfigDict, manifest: Manifest) -> Int[np.ndarray, ' n']:
    """All rows of `splits.train`."""
    return manifest.rows(config_lib.names(config.splits.train))


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
) -> Examples:
    """One image a case for fine-tuning, every case equally often, with its `targets`."""
    by_case = config.aggregate != 'none'
    units = (cases.units_of_cases if by_case else cases.units_of_images)(manifest, rows)
    known = labels.encode(manifest, rows, task, config.labels.uncertain)
    targets = np.zeros((len(manifest), *known.shape[1:]), known.dtype)
    targets[rows] = known
    sampler = Sampler(units, config.seed, config.batch_size, views=1)
    return Examples(rows, sampler, {'targets': targets}, task)


def learnt(config: ConfigDict, manifest: Manifest) -> tuple[Int[np.ndarray, ' n'], Task]:
    """All labelled rows of `splits.train` and the task they make; raises as `labels.find_task`."""
    rows = labels.labelled(manifest, trained_rows(config, manifest))
    task = labels.find_task(
        manifest,
        rows,
        config.labels.kind,
        config.labels.negative,
        classes=label_names.names_of(config.labels).classes,
        uncertain=config.labels.uncertain,
    )
    return rows, task


def learnt_share(config: ConfigDict, manifest: Manifest) -> tuple[Int[np.ndarray, ' n'], Task]:
    """As `learnt`, the rows of `label_fraction` alone."""
    rows, task = learnt(config, manifest)
    return labels.fraction(manifest, rows, config.label_fraction, config.label_seed, task), task
