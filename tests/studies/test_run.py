"""A run that a folder of the study holds: the study's own, or another."""

import json

import pytest
from etils import epath

from big_ssl.errors import InputError
from big_ssl.studies.run import BEGUN, DONE
from tests.studies import made_up
from tests.studies.made_up import SETTINGS
from tests.studies.test_design import by_name, runs_of

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')

PRETRAINING = 'pretrain/simclr_natural-simclr-micle/seed0'
FINETUNING = 'finetune/micle/seed0'


@pytest.fixture
def folder(tmp_path):
    """Of a study, with the finished runs that tests change."""
    study, runs = epath.Path(tmp_path), by_name(runs_of('derm', '', **SETTINGS))
    for name in (PRETRAINING, FINETUNING):
        made_up.finish(runs[name], study)
    return study


def state(folder, name, **settings):
    return by_name(runs_of('derm', '', **SETTINGS, **settings))[name].state(folder)


def rewrite(folder, name, change):
    path = folder / 'runs' / name / 'config.json'
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def as_stored_before(config):
    """When a crop's share of the image had no lower bound, and intervals were resampled."""
    del config['crop']['min_object_covered']
    config['bootstrap_replicates'] = 1000


@pytest.mark.parametrize('name', [PRETRAINING, FINETUNING])
def test_a_run_of_an_earlier_version_is_the_studys(folder, name):
    rewrite(folder, name, as_stored_before)
    assert state(folder, name) == DONE
    (folder / 'runs' / name / 'result.json').unlink()
    assert state(folder, name) == BEGUN


def test_a_run_of_an_earlier_version_with_other_settings_is_refused(folder):
    rewrite(folder, PRETRAINING, lambda config: (as_stored_before(config), config.update(seed=7)))
    with pytest.raises(InputError, match=r'micle/seed0: was made with seed=7, the study says 0'):
        state(folder, PRETRAINING)


def test_what_the_study_says_of_a_younger_key_counts(folder):
    rewrite(folder, PRETRAINING, as_stored_before)
    said = {'micle.crop.min_object_covered': 0.2}
    message = r'was made with crop\.min_object_covered=0\.0, the study says 0\.2'
    with pytest.raises(InputError, match=message):
        state(folder, PRETRAINING, **said)


def test_how_it_is_computed_may_differ(folder):
    rewrite(folder, PRETRAINING, lambda config: config['compute'].update(remat='blocks'))
    assert state(folder, PRETRAINING) == DONE
    assert state(folder, PRETRAINING, **{'every.compute.shard': 'all'}) == DONE


@pytest.mark.parametrize('text', ['{"seed": ', '3', '[3]'])
def test_a_config_that_cannot_be_read_is_one_line(folder, text):
    (folder / 'runs' / PRETRAINING / 'config.json').write_text(text)
    with pytest.raises(InputError, match=r'config\.json: cannot be read; delete .*-micle/seed0$'):
        state(folder, PRETRAINING)
