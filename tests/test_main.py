import concurrent.futures
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from big_ssl.main import main, parse
from tests import runs
from tests.helpers import save, smooth, write_table

ROOT = Path(__file__).parent.parent
MICLE, SIMCLR, FINETUNE = (
    f'--config={ROOT}/configs/derm_{name}.py:demo' for name in ('micle', 'simclr', 'finetune')
)


pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


def error_of(capsys, *arguments):
    """What `main` says before it exits with 2: one line."""
    assert main(['big_ssl', *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith('error: ') and not out
    return line.removeprefix('error: ')


@pytest.mark.parametrize(
    ('flags', 'expected'),
    [
        (['--config.batchsize=3'], 'key --config.batchsize, did you mean config.batch_size?'),
        (['--config.model.dept=3'], 'key --config.model.dept, did you mean config.model.depth?'),
        (['--config.optimizer.lr=3'], 'unknown key --config.optimizer.lr'),
        (['--config.seed=1', '--config.learning_rate=1'],
         'key --config.learning_rate, did you mean config.optimizer.learning_rate?'),
        (['--config.dataset.columns.patient=x'],
         'key --config.dataset.columns.patient, did you mean config.dataset.columns.patient_id?'),
        (['--workdr=x'], 'unknown flag --workdr, did you mean workdir?'),
        (['--batch_size=3'], 'unknown flag --batch_size, did you mean config.batch_size?'),
        (['--config.batch_size=many'], 'flag --config.batch_size=many: '),
        (['--config.batch_size=1.5'], 'flag --config.batch_size=1.5: '),
        (['--config.batch_size='], 'flag --config.batch_size=: '),
        (['--config.batch_size'], 'Missing value for flag --config.batch_size'),
        (['--config.method.mask_same_patient=maybe'], 'flag --config.method.mask_same_patient='),
        (['--config.method.temperature=warm'], 'flag --config.method.temperature=warm: '),
        (['--config.model=18'], 'flag --config.model=18: '),
        (['--config.model.depth=51'], 'config: model.depth=51 is not one of 18, 34, 50'),
        (['--config.optimizer.name=lasr'], 'optimizer.name=lasr is not one of lars, sgd, adam'),
        (['--config.label_fraction=2'], 'config: label_fraction=2.0 is outside ['),
        (['--config.crop.area=0.5'], 'config: crop.area=(0.5,) is not a valid range'),
        (['--config.crop.area=(0.1,0.5,1)'], 'crop.area=(0.1, 0.5, 1) is not a valid range'),
        (['--config.total_steps=2', '--config.total_epochs=2'],
         'found total_steps and total_epochs'),
        (['--config.total_steps=0'], 'config: total_steps must be positive'),
        (['stray'], "unexpected argument 'stray'"),
        (['--workdir='], '--workdir is missing'),
    ],
)  # fmt: skip
def test_wrong_flags(tmp_path, capsys, flags, expected):
    assert expected in error_of(capsys, MICLE, f'--workdir={tmp_path / "run"}', *flags)
    assert not list(tmp_path.iterdir())


def test_missing_flags(capsys):
    assert '--workdir is missing' in error_of(capsys, MICLE)
    assert '--config is missing; for example: python -m' in error_of(capsys, '--workdir=x')


CHANGED = """
from big_ssl.config import defaults
def get_config():
    c = defaults()
    {}
    return c
"""


@pytest.mark.parametrize(
    ('content', 'variant', 'expected'),
    [
        (None, '', 'No such file or directory'),
        ('get_config = 3 +', '', 'mine.py, line 1'),
        ('import nowhere_to_be_found', '', "No module named 'nowhere_to_be_found'"),
        ('numbers = 3', '', "no attribute 'get_config'"),
        ('def get_config(): return 3 + "4"', '', 'unsupported operand'),
        ('def get_config(): return {}["seed"]', '', 'KeyError: seed'),
        (CHANGED.format('c.sed = 3'), '', 'Key "sed" does not exist'),
        (CHANGED.format('c.seed = "a"'), '', "field 'seed'"),
        ('def get_config(): return 3', ':demo', 'get_config() takes 0 positional arguments'),
    ],
)  # fmt: skip
def test_config_files_that_do_not_load(tmp_path, capsys, content, variant, expected):
    if content is not None:
        (tmp_path / 'mine.py').write_text(content)
    line = error_of(capsys, f'--config={tmp_path}/mine.py{variant}', f'--workdir={tmp_path}/run')
    assert expected in line and '--config' in line and len(line) < 500
    assert not (tmp_path / 'run').exists()


def test_unknown_variant(capsys):
    line = error_of(capsys, MICLE.replace(':demo', ':dmeo'), '--workdir=x')
    assert line == "config: unknown variant 'dmeo'; the only one is :demo"


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull'])
def test_help_lists_every_key(capsys, flag):
    assert main(['big_ssl', flag, '--nonsense']) == 0
    out, err = capsys.readouterr()
    assert not err
    assert '--config.batch_size=512' in out and '--config.model.depth=50' in out
    described = [line.split(maxsplit=1) for line in out.splitlines() if '  --config.' in line]
    assert all(len(parts) == 2 for parts in described), described
    assert 'supcon' in out and '(lars, sgd, adam)' in out
    assert 'python -m big_ssl.main --config=configs/' in out and '75' in out


def test_values_reach_the_config():
    config, workdir, given = parse([
        'big_ssl', '--workdir=gs://bucket/run', '--config.total_epochs=3', MICLE,
        '--config.optimizer.learning_rate=1', '--config.crop.area=(0.5, 1)',
        '--noconfig.method.mask_same_patient', '--config.dataset.manifest=a b/täble.csv',
    ])  # fmt: skip
    assert workdir == 'gs://bucket/run' and 'crop.area' in given and 'seed' not in given
    assert config.total_epochs == 3 and config.total_steps is None
    assert config.optimizer.learning_rate == 1.0 and config.crop.area == (0.5, 1)
    assert config.method.mask_same_patient is False
    assert config.dataset.manifest == 'a b/täble.csv' and config.dataset.name == 'manifest'
    assert config.batch_size == 64  # the demo's


def rows_of(folder):
    """48 images of 24 cases in three splits, in two classes."""
    rows = []
    for i in range(48):
        split = ('train', 'train', 'val', 'test')[i // 12]
        save(folder / f'{i}.png', smooth(40, 40, seed=i))
        rows.append([f'{i}.png', f'c{i // 2}', f'p{i // 2}', 'ab'[i // 2 % 2], split])
    return rows


def without_path_column(folder, rows):
    return write_table(
        folder / 'table.csv', rows, ('file', 'case_id', 'patient_id', 'label', 'split')
    )


def with_missing_image(folder, rows):
    (folder / '5.png').unlink()
    return write_table(folder / 'table.csv', rows)


def with_broken_image(folder, rows):
    content = (folder / '5.png').read_bytes()
    (folder / '5.png').write_bytes(content[: len(content) // 2])
    return write_table(folder / 'table.csv', rows)


def with_unseen_label(folder, rows):
    rows[40][3] = rows[41][3] = 'c'
    return write_table(folder / 'table.csv', rows)


def as_it_is(folder, rows):
    return write_table(folder / 'table.csv', rows)


def in_another_run(folder, rows):
    (folder / 'run').mkdir()
    (folder / 'run' / 'config.json').write_text(json.dumps({'batch_size': 1024}))
    return as_it_is(folder, rows)


# name: (config, what is made, further flags, devices, parts of the message)
RUNS = {
    'missing column': (MICLE, without_path_column, [], 1,
                       ["table.csv: no column 'image_path'", 'columns found: file, case_id']),
    'missing image': (FINETUNE, with_missing_image, [], 1,
                      ['table.csv row 7: ', '5.png: no such file']),
    'broken image': (SIMCLR, with_broken_image, [], 1,
                     ['table.csv row 7: ', '5.png: does not decode']),
    'empty split': (MICLE, as_it_is, ['--config.splits.train=trian'], 1,
                    ["no row has split 'trian' (splits found: test, train, val)"]),
    'unseen label': (FINETUNE, with_unseen_label, [], 1,
                     ["table.csv row 42: label 'c' does not occur in the training labels (a, b)"]),
    'other config': (MICLE, in_another_run, [], 1,
                     ['run/config.json: the workdir holds another config', '(1024 there)',
                      'choose another --workdir']),
    'no run to judge': (FINETUNE, as_it_is,
                        ['--config.task=evaluate', '--config.init_from=nothing'], 1,
                        ['nothing: no checkpoints there']),
    'devices': (MICLE, as_it_is, ['--config.batch_size=12'], 8,
                ['config: batch_size=12 does not divide over 8 devices']),
}  # fmt: skip


def run_one(folder, config, make, flags, devices):
    """A real process on a table of its own."""
    folder.mkdir()
    table = make(folder, rows_of(folder))
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'{runs.QUICK_COMPILE} --xla_force_host_platform_device_count={devices}',
        'PYTHONPATH': str(ROOT),
    }
    small = ['--config.batch_size=16', '--config.total_steps=4', '--config.warmup_steps=1']
    command = [
        sys.executable, '-m', 'big_ssl.main', config, f'--workdir={folder / "run"}',
        f'--config.dataset.manifest={table}', *small, *flags,
    ]  # fmt: skip
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        started = {
            name: pool.submit(run_one, folder / name, *arguments[:4])
            for name, arguments in RUNS.items()
        }
        return {name: (folder / name, future.result()) for name, future in started.items()}


@pytest.mark.parametrize('name', RUNS)
def test_wrong_input(ended, name):
    folder, done = ended[name]
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1 and done.stderr.splitlines()[-1] == errors[0]
    for part in RUNS[name][4]:
        assert part in errors[0]
    assert 'Traceback' not in done.stderr and 'Traceback' not in done.stdout
    left = {path.name for path in (folder / 'run').rglob('*')}
    assert not left & {'result.json', 'predictions.csv', 'report.html'}
    assert not [name for name in left if name.endswith('.writing')]


def test_images_are_smooth_and_differ():
    """The broken image fails by its bytes and by nothing else."""
    assert not np.array_equal(smooth(40, 40, seed=5), smooth(40, 40, seed=6))
