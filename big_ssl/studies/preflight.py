"""What the runs of a study would refuse, found before any of them trains."""

import logging
from collections.abc import Mapping, Sequence

from etils import epath

from big_ssl import config as config_lib
from big_ssl.data import datasets, training
from big_ssl.errors import InputError
from big_ssl.run_keys import FINETUNING, PRETRAINING
from big_ssl.studies.run import DONE, HAS_DIVERGED, Run
from big_ssl.tasks import labelled, trained

log = logging.getLogger(__name__)

_AXES = (
    'seed',
    'label_fraction',
    'label_seed',
    'optimizer.learning_rate',
    'optimizer.weight_decay',
)


def check(runs: Sequence[Run], study: epath.Path) -> None:
    """Opens what the runs that are not done will read: tables, labels, subgroups, image headers.

    Runs that differ along the axes of a study alone read the same, and are opened once. The
    embedded phantom sets are not looked at.

    Raises:
      InputError: as the first run that reads it would, hours later.
    """
    by_name = {run.name: run for run in runs}
    seen = set()
    for run in runs:
        read = {
            key: value
            for key, value in run.settings.items()
            if key not in _AXES and not key.startswith('model.')
        }
        kind = (run.file, run.facts['role'], repr(sorted(read.items())))
        if kind in seen or run.state(study) in (DONE, HAS_DIVERGED):
            continue
        seen.add(kind)
        try:
            _open(run, by_name, study)
        except InputError as error:
            raise InputError(
                f'{error} (found before any training, for {run.name}; '
                'a key of one stage is set by --config.STAGE.KEY)'
            ) from None


def _open(run: Run, by_name: Mapping[str, Run], study: epath.Path) -> None:
    config, _, given = run.check(study)
    if config.dataset.name in datasets.PHANTOMS:
        return
    log.info('looking at %s, for %s', config.dataset.manifest, run.name)
    if config.task == FINETUNING:
        labelled.open_data(config)
    elif config.task == 'evaluate':
        assert run.begins_with is not None
        theirs = by_name[run.begins_with].check(study).config
        trained.agree(config, given, config_lib.flat(theirs))
        _, task = training.learnt(theirs, datasets.open_manifest(theirs))
        labelled.open_judged(config, task)
    elif config.task == PRETRAINING:
        manifest = datasets.open_manifest(config)
        wanted = config_lib.method_of(config).LABELS
        datasets.open_images(config, manifest, training.examples(config, manifest, wanted).rows)
    else:
        manifest = datasets.open_manifest(config)
        rows = manifest.rows(config_lib.names(config.splits.evaluate))
        datasets.open_images(config, manifest, rows)
