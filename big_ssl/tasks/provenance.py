"""What the weights of a run have seen, for `result.json`: its own data, and those before it."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from big_ssl.data import cases
from big_ssl.data.datasets import PHANTOMS
from big_ssl.data.manifest import Manifest
from big_ssl.train import init_from
from big_ssl.train.checkpoint import Checkpoints


def trained_on(
    config: ConfigDict,
    manifest: Manifest,
    rows: np.ndarray,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Any]:
    """`trained_on/…`, to be kept beside every checkpoint of a run.

    A run that goes on keeps what its checkpoint says. One that begins with the weights of another
    adds what those had seen, and theirs before, as `trained_on/before/…`.

    Args:
      rows: of the manifest, the training images.
      checkpoints: of this run, if it has any.

    Raises:
      InputError: `init_from` holds no checkpoint.
    """
    if checkpoints is not None and (step := checkpoints.latest()) is not None:
        return checkpoints.about(step)['trained_on']
    patients = set(manifest.patient_id[rows].tolist()) - {''}
    return {
        'trained_on/data': manifest.path,
        'trained_on/fingerprint': manifest.fingerprint(),
        'trained_on/synthetic': config.dataset.name in PHANTOMS,
        'trained_on/splits': config.splits.train,
        'trained_on/images': len(rows),
        'trained_on/cases': len(np.unique(cases.case_codes(manifest, rows, by_case=True))),
        'trained_on/patients': len(patients) or 'not known',
        'trained_on/label_fraction': config.label_fraction,
        'trained_on/label_seed': config.label_seed,
        'trained_on/label_fraction_val': (
            config.label_fraction if config.labels.val == 'alike' else 1.0
        ),
        'trained_on/init_from': config.init_from or 'random initialisation',
        'trained_on/seed': config.seed,
        **_before(config),
    }


def applied_to(manifest: Manifest) -> dict[str, Any]:
    """`evaluated/…` of a run that applies weights to the images of a table."""
    return {'evaluated/table': manifest.path, 'evaluated/data': manifest.fingerprint()}


def at_step(about: dict[str, Any], step: int | None) -> dict[str, Any]:
    """`trained_on/…` of a checkpoint, with its step; of a file, without."""
    return about['trained_on'] | ({} if step is None else {'trained_on/step': step})


def _before(config: ConfigDict) -> dict[str, Any]:
    if not config.init_from:
        return {}
    source = init_from.load(config.init_from, config.init_prefix)
    return {
        f'trained_on/before/{name.removeprefix("trained_on/")}': value
        for name, value in at_step(source.about, source.step).items()
    }
