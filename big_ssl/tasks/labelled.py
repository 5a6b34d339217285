"""The labelled images of a config, checked: what is learnt from, and what is judged."""

import dataclasses

from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import datasets, training
from big_ssl.data.images import ImageTable
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.data.training import Examples
from big_ssl.errors import InputError
from big_ssl.tasks import judge
from big_ssl.tasks.judge import Split


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learnt from and what is judged.

    Attributes:
      examples: of the labelled training images of `label_fraction`.
      judged: validation, if there is one, and then each of `splits.evaluate`.
      validation: the first of `judged`, if it is `splits.val`.
      table: headers of all their images.
    """

    manifest: Manifest
    task: Task
    examples: Examples
    judged: list[Split]
    validation: Split | None
    table: ImageTable


def open_data(config: ConfigDict) -> Data:
    """Raises InputError where a split has no labels, a label is unknown, or an image is missing."""
    manifest = datasets.open_manifest(config)
    rows, task = training.learnt_share(config, manifest)
    judged = judge.splits_of(config, manifest, _judged_names(config, manifest), task)
    for split in (Split(config.splits.train, rows), *judged):
        judge.check_labels(config, manifest, split, task)
    return Data(
        manifest=manifest,
        task=task,
        examples=training.labelled(config, manifest, rows, task),
        judged=judged,
        validation=judged[0] if judged[0].name == config.splits.val else None,
        table=datasets.open_images(config, manifest, rows, *(split.rows for split in judged)),
    )


def open_judged(config: ConfigDict, task: Task) -> tuple[Manifest, list[Split], ImageTable]:
    """What a trained classifier is judged on: `splits.evaluate`.

    Raises:
      InputError: as `open_data`, or a label is none of the classifier's task.
    """
    manifest = datasets.open_manifest(config, task.classes)
    splits = judge.splits_of(config, manifest, list(config_lib.names(config.splits.evaluate)))
    for split in splits:
        judge.check_labels(config, manifest, split, task)
    return manifest, splits, datasets.open_images(config, manifest, *(s.rows for s in splits))


def _judged_names(config: ConfigDict, manifest: Manifest) -> list[str]:
    judged = list(config_lib.names(config.splits.evaluate))
    if datasets.has_split(manifest, config.splits.val):
        return [config.splits.val, *(name for name in judged if name != config.splits.val)]
    if config.select == 'best':
        raise InputError(
            f'{manifest.path}: no row has split {config.splits.val!r}, which picks the checkpoint; '
            'name another by --config.splits.val, or take the last by --config.select=last'
        )
    return judged
