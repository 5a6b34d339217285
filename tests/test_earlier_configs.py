import copy
import json
import logging

import pytest

from big_ssl import command_line, config, earlier_configs, main, methods, study
from big_ssl.errors import InputError
from big_ssl.studies import design
from big_ssl.train import workdir as workdir_lib

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')

MICLE, DERM = '--config=configs/derm_micle.py:demo', '--config=configs/studies/derm.py:demo'
WHY = 'intervals are computed in closed form; bootstrap_replicates is no longer read'


@pytest.fixture(autouse=True)
def lines(caplog):
    """Those that are said, from the first one on."""
    caplog.set_level(logging.INFO, 'big_ssl')
    config._say.cache_clear()
    return caplog


def stored_before():
    """The config of derm_micle as it was stored when crop.min_object_covered did not exist."""
    made = main.parse(['main', MICLE, '--workdir=x']).config
    stored = json.loads(json.dumps(made.to_dict()))
    del stored['crop']['min_object_covered']
    return stored | {'bootstrap_replicates': 1000}


def test_the_tables_are_of_keys_that_are_or_are_not():
    now = set(config.keys(config.defaults()))
    assert set(earlier_configs.ADDED) <= now
    assert not now & (set(earlier_configs.RETIRED) | set(earlier_configs.RENAMED))
    of_methods = {f'method.{key}' for name in methods.names() for key in methods.load(name).KEYS}
    assert set(earlier_configs.RENAMED.values()) <= now | of_methods


def test_an_earlier_config_by_hand():
    stored = {
        'seed': 3,
        'bootstrap_replicates': 200,
        'temperature': 0.5,
        'label_smoothing': 0.1,
        'crop': {'area': [0.08, 1.0]},
        'model': {'depth': 18, 'batch_norm': 'frozen', 'projection_layers': 3},
        'init_from': None,
    }
    before = copy.deepcopy(stored)
    assert earlier_configs.up_to_date(stored) == {
        'seed': 3,
        'chunks': 1,
        'crop': {'area': [0.08, 1.0], 'min_object_covered': 0.0},
        'model': {
            'depth': 18,
            'batch_norm': 'frozen',
            'name': 'resnet',
            'width': 1.0,
            'stem': 'standard',
            'padding': 'auto',
        },
        'init_from': None,
        'init_normalization': 'none',
        'method': {
            'name': 'simclr',
            'temperature': 0.5,
            'mask_same_patient': True,
            'projection_layers': 3,
            'projection_size': 128,
        },
    }
    assert stored == before
    bit = {'depth': 50, 'backbone': 'bit', 'stem': 'standard', 'padding': 'torch'}
    found = earlier_configs.up_to_date(stored | {'model': bit})
    assert found['model'] == {'name': 'bit', 'depth': 50, 'width': 1.0, 'batch_norm': 'batch'}
    found = earlier_configs.up_to_date(stored | {'task': 'supervised'})
    assert found['method'] == {'name': 'classify', 'label_smoothing': 0.1}


def test_a_config_of_now_comes_back_equal():
    now = config.defaults().to_dict()
    assert earlier_configs.up_to_date(now) == now
    once = earlier_configs.up_to_date(stored_before())
    assert earlier_configs.up_to_date(once) == once


def test_renamed_keys(monkeypatch):
    monkeypatch.setitem(earlier_configs.RENAMED, 'optimizer.rate', 'optimizer.learning_rate')
    monkeypatch.setitem(earlier_configs.RENAMED, 'least', 'crop.min_object_covered')
    found = earlier_configs.up_to_date({'optimizer': {'rate': 0.5}, 'least': 0.2, 'seed': 1})
    assert found['optimizer'] == {'learning_rate': 0.5}
    assert found['crop'] == {'min_object_covered': 0.2} and 'least' not in found
    settings = config.defaults()
    assert earlier_configs.go_on(settings, {'least': 0.2}, ()) == ['init_normalization=none']
    command, _, given = main.parse(
        ['main', MICLE, '--workdir=x', '--config.optimizer.rate=0.25', '--config.least', '0.3']
    )
    assert command.optimizer.learning_rate == 0.25 and command.crop.min_object_covered == 0.3
    assert {'optimizer.learning_rate', 'crop.min_object_covered'} <= given
    read = command_line.read(
        ['study', DERM, '--config.every.least=0.4', '--config.micle.optimizer.rate=3'],
        study._define,
        example='',
    )
    assert read.config.every.crop.min_object_covered == 0.4
    assert read.config.micle.optimizer.learning_rate == 3.0


def test_a_run_goes_on_as_it_began_though_its_config_file_says_otherwise(tmp_path, lines):
    stored = stored_before()
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    settings, workdir, given = main.parse(['main', MICLE, f'--workdir={tmp_path}'])
    assert settings.crop.min_object_covered == 0.1
    workdir_lib.keep_as_begun(settings, workdir, given)
    assert settings.crop.min_object_covered == 0.0
    assert 'crop.min_object_covered=0.0, as in the version that began this run' in lines.text
    assert workdir_lib.claim(workdir, settings.to_dict()) == tmp_path
    assert json.loads((tmp_path / 'config.json').read_text()) == stored


def test_a_run_of_now_is_left_as_it_is(tmp_path, lines):
    settings, _, given = main.parse(['main', MICLE, f'--workdir={tmp_path}'])
    workdir_lib.keep_as_begun(settings, str(tmp_path), given)  # nothing has begun
    workdir_lib.begin(tmp_path, settings.to_dict())
    workdir_lib.keep_as_begun(settings, str(tmp_path), given)
    assert settings.crop.min_object_covered == 0.1 and not lines.records


@pytest.mark.parametrize('flag', ['crop.min_object_covered=0.1', 'seed=3'])
def test_what_the_command_line_says_is_not_changed(tmp_path, flag):
    (tmp_path / 'config.json').write_text(json.dumps(stored_before()))
    settings, workdir, given = main.parse(
        ['main', MICLE, f'--workdir={tmp_path}', f'--config.{flag}']
    )
    workdir_lib.keep_as_begun(settings, workdir, given)
    with pytest.raises(InputError, match=f'the workdir holds another config: {flag} '):
        workdir_lib.claim(workdir, settings.to_dict())


@pytest.mark.parametrize(
    'flags', [['--config.bootstrap_replicates=200'], ['--config.bootstrap_replicates', 'many']]
)
def test_a_flag_that_is_no_longer_read_is_one_line(flags, lines):
    settings, _, given = main.parse(['main', *flags, MICLE, '--config.seed=3', '--workdir=x'])
    assert settings.seed == 3 and given == {'seed'}
    (line,) = lines.messages
    assert line == f'--config.bootstrap_replicates: {WHY}'
    assert config.keys(settings) == config.keys(config.defaults())


def test_such_a_flag_of_a_study(lines):
    flags = [f'--config.{part}.bootstrap_replicates=20' for part in ('every', 'micle')]
    with_them, without = (
        command_line.read(['study', DERM, *more, '--config.seeds=(1,)'], study._define, example='')
        for more in (flags, [])
    )
    runs = [design.runs_of(read.config, read.given) for read in (with_them, without)]
    assert runs[0] == runs[1] and with_them.given == {'seeds'}
    assert lines.messages == [f'{flag.partition("=")[0]}: {WHY}' for flag in flags]


@pytest.mark.parametrize(
    ('file', 'key'),
    [
        (MICLE, 'model.bootstrap_replicates'),
        (MICLE, 'nothing.bootstrap_replicates'),
        (MICLE, 'bootstrap_replicate'),
        (DERM, 'bootstrap_replicates'),
        (DERM, 'miclee.bootstrap_replicates'),
        (DERM, 'every.model.bootstrap_replicates'),
    ],
)
def test_where_no_run_has_had_such_a_key_it_is_unknown(file, key):
    with pytest.raises(InputError, match=f'unknown key --config.{key}'):
        command_line.read(['x', file, f'--config.{key}=20'], study._define, example='')


def test_a_config_file_may_still_set_it(tmp_path, lines):
    path = tmp_path / 'mine.py'
    path.write_text(
        'from big_ssl.config import defaults\n'
        'def get_config():\n'
        '    config = defaults()\n'
        '    config.bootstrap_replicates = 200\n'
        '    config["bootstrap_replicates"] = 300\n'
        '    config.update({"bootstrap_replicates": 400, "seed": 5})\n'
        '    return config\n'
    )
    settings, _, _ = main.parse(['main', f'--config={path}', '--workdir=x'])
    assert lines.messages == [f'config: {WHY}']
    assert settings.seed == 5 and config.keys(settings) == config.keys(config.defaults())
    with pytest.raises(AttributeError):
        settings.bootstrap_replicate = 3


def test_a_study_file_may_still_set_it(tmp_path, lines):
    path = tmp_path / 'mine.py'
    path.write_text(
        'from big_ssl.studies import settings\n'
        'def get_config():\n'
        '    config = settings.defaults()\n'
        '    config.methods = (("random", ()), ("simclr", ("simclr",)))\n'
        '    settings.add_stages(config, "demo", simclr="derm_simclr", finetune="derm_finetune")\n'
        '    config.every.bootstrap_replicates = 20\n'
        '    config.finetune.bootstrap_replicates = 30\n'
        '    return config.lock()\n'
    )
    read = command_line.read(['study', f'--config={path}'], study._define, example='')
    runs = design.runs_of(read.config, read.given)
    assert runs and not any('bootstrap_replicates' in run.settings for run in runs)
    assert lines.messages == [f'config: {WHY}']
