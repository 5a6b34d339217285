"""A small study through the door: undisturbed, killed again and again, and run elsewhere."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from big_ssl import processes, study
from big_ssl.errors import InputError
from big_ssl.studies import execute
from tests import runs

ROOT = Path(__file__).parent.parent.parent
STUDY = """
from big_ssl.studies import settings


def get_config(variant=''):
    config = settings.defaults()
    config.title = 'Tiny'
    config.seeds = (0,)
    config.methods = (('random', ()), ('simclr', ('simclr',)))
    config.baseline = 'random'
    config.embed_split = ''
    settings.add_stages(config, 'demo', simclr='derm_simclr', finetune='derm_finetune')
    config.elsewhere.dataset.name = 'manifest'
    config.every.image_size = 16
    config.every.batch_size = 16
    config.every.total_steps = 12
    config.every.monitor_every_steps = 6
    config.every.checkpoint_every_steps = 3
    config.every.log_every_steps = 1
    config.every.warmup_steps = 2
    return config.lock()
"""


def environment(cache: str) -> dict[str, str]:
    return os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': runs.QUICK_COMPILE,
        'JAX_COMPILATION_CACHE_DIR': cache,
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'PYTHONPATH': str(ROOT),
    }


@pytest.fixture(scope='module')
def config(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    path.write_text(STUDY)
    return str(path)


@pytest.fixture(scope='module')
def start(config, tiny_manifest, compile_cache):
    """Starts the study in a folder; returns the process."""

    def start(study: Path, *more: str) -> subprocess.Popen:
        flags = [f'--config={config}', f'--workdir={study}']
        flags += [f'--config.every.dataset.manifest={tiny_manifest}', *more]
        return subprocess.Popen(
            [sys.executable, '-m', 'big_ssl.study', *flags],
            cwd=ROOT,
            env=environment(compile_cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, start) -> Path:
    study = tmp_path_factory.mktemp('undisturbed')
    process = start(study)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert '[1/3] finetune/random/seed0' in errors and '3 runs, 0 of them done' in errors
    assert '0 runs left' in errors
    return study


def figures(study: Path) -> dict:
    return json.loads((study / 'result.json').read_text())


def assert_same(study: Path, other: Path) -> None:
    a, b = figures(study), figures(other)
    assert a.keys() == b.keys() and a['study/done'] == 3
    for name in a:
        assert a[name] == b[name], name


@pytest.mark.long
def test_what_it_leaves(undisturbed):
    result = figures(undisturbed)
    assert {'random/test/top1', 'simclr/test/top1', 'simclr-random/test/top1'} <= result.keys()
    assert result['simclr/test/top1/runs'] == 1
    assert (undisturbed / 'report.html').exists()
    assert (undisturbed / 'logs/finetune/simclr/seed0.log').read_text()


@pytest.mark.long
def test_done_runs_are_not_run_again(undisturbed, start):
    before = {
        path: path.stat().st_mtime_ns for path in undisturbed.glob('runs/**/*') if path.is_file()
    }
    process = start(undisturbed)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and '3 runs, 3 of them done' in errors
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.long
def test_other_settings_are_refused(undisturbed, start):
    process = start(undisturbed, '--config.finetune.optimizer.learning_rate=0.5')
    _, errors = process.communicate(timeout=300)
    last = errors.splitlines()[-1]
    assert process.returncode == 2
    assert 'optimizer.learning_rate=0.05, the study says 0.5' in last


@pytest.mark.chaos
def test_killed_at_random_moments(undisturbed, start, tmp_path):
    """SIGKILL to the study alone: its run must not go on without it."""
    random = np.random.default_rng(0)
    for _ in range(2):
        process = start(tmp_path)
        time.sleep(random.uniform(3, 14))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    process = start(tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert_same(tmp_path, undisturbed)


@pytest.mark.chaos
def test_asked_to_stop(undisturbed, start, tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob('runs/**/metrics.jsonl')) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 75, errors
    assert errors.splitlines()[-1].endswith('run the same command again to go on')
    process = start(tmp_path)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert_same(tmp_path, undisturbed)


@pytest.mark.chaos
def test_listed_commands_run_elsewhere_and_collected(undisturbed, start, compile_cache, tmp_path):
    study = tmp_path / 'here'
    listed, errors = start(study, '--list').communicate(timeout=120)
    assert len(listed.splitlines()) == 3 and not study.exists(), errors
    for line in listed.splitlines():
        command = shlex.split(line)
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=ROOT,
            env=environment(compile_cache),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    moved = tmp_path / 'moved'
    study.rename(moved)
    process = start(moved, '--collect')
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same(moved, undisturbed)
    assert not (moved / 'logs').exists()


def test_runs_that_crash(as_a_fresh_process, tmp_path, monkeypatch, capsys):
    """The others are tried, the report is written, and the exit code is 1."""
    monkeypatch.setattr(execute, '_do', lambda *_: 1)
    command = ['study', '--config=configs/studies/finetune_search.py:demo', f'--workdir={tmp_path}']
    assert study.main(command) == 1
    assert '4 of 4 runs failed' in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'report.html').exists()


def test_two_studies_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(execute, '_PATIENCE', 0.3)
    with (
        processes.alone(tmp_path / execute.LOCK, 'held by the test'),
        pytest.raises(InputError, match='another study is at work here'),
    ):
        execute.execute([], epath.Path(tmp_path))
    execute.execute([], epath.Path(tmp_path))


def test_in_a_bucket_the_output_of_a_run_is_kept_whole(gs):
    said = types.SimpleNamespace(
        name='simclr/seed0', arguments=lambda study: ['-c', f'print("into {study}"); exit(3)']
    )
    stop = types.SimpleNamespace(child=None)
    assert execute._do(said, epath.Path('gs://bucket/study'), stop) == 3
    assert (gs / 'bucket/study/logs/simclr/seed0.log').read_text() == 'into gs://bucket/study\n'
