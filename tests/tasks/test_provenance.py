import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from big_ssl.config import defaults
from big_ssl.errors import InputError
from big_ssl.tasks import provenance
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState
from tests import helpers


def manifest_of(folder):
    return helpers.manifest_of(
        folder,
        [
            ('0.png', 'A', 'Q', 'benign', 'train'),
            ('1.png', 'B', 'P', 'malignant', 'train'),
            ('2.png', 'C', '', 'benign', 'other'),
            ('3.png', 'B', 'P', 'malignant', 'train'),
            ('4.png', '', '', 'benign', 'train'),
        ],
    )


def save(workdir, about: dict, step: int, score: float | None = None) -> None:
    state = TrainState(
        step=jnp.int32(step), params={'w': jnp.zeros(1)}, batch_stats={}, opt_state={}
    )
    checkpoints = Checkpoints(epath.Path(workdir), keep=9)
    checkpoints.save(state, about, score)
    checkpoints.wait()


def fresh(folder) -> Checkpoints:
    return Checkpoints(epath.Path(folder) / 'run')


def test_what_a_run_trains_on(tmp_path):
    config = defaults()
    config.seed, config.label_fraction = 4, 0.5
    manifest = manifest_of(tmp_path)
    rows = np.array([0, 1, 3, 4])
    seen = provenance.trained_on(config, manifest, rows, fresh(tmp_path))
    assert seen == {
        'trained_on/data': str(tmp_path / 'table.csv'),
        'trained_on/fingerprint': manifest.fingerprint(),
        'trained_on/synthetic': False,
        'trained_on/splits': 'train',
        'trained_on/images': 4,
        'trained_on/cases': 3,  # A, B and the image without a case
        'trained_on/patients': 2,
        'trained_on/label_fraction': 0.5,
        'trained_on/label_seed': 0,
        'trained_on/label_fraction_val': 0.5,
        'trained_on/init_from': 'random initialisation',
        'trained_on/seed': 4,
    }


def test_synthetic_images_of_unknown_patients(tmp_path):
    config = defaults()
    config.dataset.name = 'phantom'
    rows = np.array([2, 4])
    seen = provenance.trained_on(config, manifest_of(tmp_path), rows, fresh(tmp_path))
    assert seen['trained_on/synthetic'] is True
    assert seen['trained_on/patients'] == 'not known'


def test_weights_bring_what_they_and_those_before_them_saw(tmp_path):
    """Also those of a run that never finished: it has checkpoints, and no result.json."""
    micle = tmp_path / 'micle'
    saw = {'trained_on/splits': 'train+other', 'trained_on/before/data': 'natural.csv'}
    save(micle, {'trained_on': saw | {'trained_on/images': 5}}, step=7)
    config = defaults()
    config.init_from = str(micle)
    seen = provenance.trained_on(config, manifest_of(tmp_path), np.arange(2), fresh(tmp_path))
    assert seen['trained_on/init_from'] == str(micle)
    assert {name: value for name, value in seen.items() if 'before' in name} == {
        'trained_on/before/splits': 'train+other',
        'trained_on/before/images': 5,
        'trained_on/before/step': 7,
        'trained_on/before/before/data': 'natural.csv',
    }


def test_it_is_the_checkpoint_whose_weights_are_taken(tmp_path):
    for step, score in ((3, 0.9), (6, 0.2)):
        save(tmp_path / 'w', {'trained_on': {'trained_on/images': step}}, step, score)
    config = defaults()
    config.init_from = str(tmp_path / 'w')
    seen = provenance.trained_on(config, manifest_of(tmp_path), np.arange(2), fresh(tmp_path))
    assert seen['trained_on/before/step'] == seen['trained_on/before/images'] == 3


def test_a_run_that_goes_on_keeps_what_it_had_noted(tmp_path):
    noted = {'trained_on/images': 9, 'trained_on/before/splits': 'train+other'}
    save(tmp_path / 'run', {'trained_on': noted}, step=2)
    config = defaults()
    config.init_from = str(tmp_path / 'deleted since')
    found = provenance.trained_on(config, manifest_of(tmp_path), np.arange(2), fresh(tmp_path))
    assert found == noted
    assert provenance.at_step({'trained_on': noted}, 5) == noted | {'trained_on/step': 5}


def test_a_folder_without_checkpoints(tmp_path):
    config = defaults()
    config.init_from = str(tmp_path / 'nothing')
    with pytest.raises(InputError, match='no checkpoints'):
        provenance.trained_on(config, manifest_of(tmp_path), np.arange(2), fresh(tmp_path))
