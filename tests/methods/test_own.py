"""The method and the backbone that README shows, in a folder outside the repository."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import runs

ROOT = runs.ROOT
CONFIG = """
from big_ssl import config as config_lib


def get_config(variant=''):
    config = config_lib.defaults()
    config.method.name = 'lab.queue_nce'
    config.method.queue_size = 40
    config.model.name, config.model.channels = 'lab.three_convolutions', 32
    config.image_size = 16
    config.batch_size, config.optimizer.name, config.optimizer.learning_rate = 16, 'adam', 0.001
    config.total_epochs, config.total_steps = None, 12
    config.warmup_epochs, config.warmup_steps = None, 2
    config.checkpoint_every_percent, config.checkpoint_every_steps = None, 3
    config.monitor_every_percent, config.monitor_every_steps = None, 6
    config.log_every_steps = 1
    return config
"""
STUDY = """
from big_ssl.studies import settings


def get_config(variant=''):
    config = settings.defaults()
    config.seeds, config.embed_split = (0,), ''
    config.methods = (('random', ()), ('queue', ('queue',)), ('byol', ('byol',)))
    config.baseline = 'random'
    settings.add_stages(
        config, 'demo', queue='derm_micle', byol='derm_micle', finetune='derm_finetune'
    )
    config.queue.method.name, config.byol.method.name = 'lab.queue_nce', 'byol'
    config.queue.method.queue_size = 40
    config.byol.method.hidden_size = config.byol.method.projection_size = 32
    config.elsewhere.dataset.name = 'manifest'
    small = {'name': 'vit', 'depth': 1, 'width': 64, 'patch': 8}
    config.networks = ('lab.three_convolutions', small)
    every = config.every
    every.image_size, every.batch_size = 16, 16
    every.total_steps, every.warmup_steps, every.log_every_steps = 6, 1, 1
    every.monitor_every_steps = every.checkpoint_every_steps = 3
    return config.lock()
"""


def readme_block(name: str) -> str:
    text = (ROOT / 'README.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    (block,) = (block for block in blocks if f'class {name}(' in block)
    return block


@pytest.fixture(scope='module')
def lab(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('elsewhere')
    (folder / 'lab').mkdir()
    (folder / 'lab/queue_nce.py').write_text(readme_block('QueueNCE'))
    (folder / 'lab/three_convolutions.py').write_text(readme_block('ThreeConvolutions'))
    (folder / 'config.py').write_text(CONFIG)
    (folder / 'study.py').write_text(STUDY)
    return folder


@pytest.fixture(scope='module')
def pretrained(lab, tiny_manifest, compile_cache) -> Path:
    """The workdir of a run that was killed once, and of one that was not."""
    flags = [f'--config={lab}/config.py', f'--config.dataset.manifest={tiny_manifest}']
    both = lab / 'straight', lab / 'killed'
    for workdir in both:
        arguments = [*flags, f'--workdir={workdir}']
        if workdir.name == 'killed':
            killed = {'before': runs.SLOW_STEPS, 'number': signal.SIGKILL}
            runs.interrupt(
                arguments,
                compile_cache,
                lambda: 4 in runs.steps_written(lab / 'killed'),
                PYTHONPATH=f'{lab}:{ROOT}',
                **killed,
            )
            assert not (workdir / 'result.json').exists()
        runs.run(arguments, compile_cache, PYTHONPATH=f'{lab}:{ROOT}')
    runs.assert_same_run(*both)
    return both[1]


@pytest.mark.parametrize('name', ['QueueNCE', 'ThreeConvolutions'])
def test_it_is_short(name):
    assert len(readme_block(name).splitlines()) <= 40


def test_killed_it_goes_on_with_the_same_bits_and_reports_its_own_figures(pretrained):
    assert 'queue_top1' in runs.metrics(pretrained)[1]
    page = (pretrained / 'report.html').read_text()
    assert 'Pre-training: QueueNCE' in page
    result = json.loads((pretrained / 'result.json').read_text())
    assert result['trained_on/network'] == 'lab.three_convolutions'
    assert result['trained_on/method'] == 'QueueNCE' and 'val/knn_top1' in result


def door(module: str, lab: Path, cache: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, '-m', f'big_ssl.{module}', *flags],
        cwd=lab,
        env=os.environ
        | {
            'JAX_PLATFORMS': 'cpu',
            'XLA_FLAGS': runs.QUICK_COMPILE,
            'JAX_COMPILATION_CACHE_DIR': cache,
            'PYTHONPATH': str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.long
def test_the_other_doors(lab, tiny_manifest, compile_cache):
    """From the folder where it lies: trained, probed, fine-tuned, exported and compared."""
    table = f'--config.dataset.manifest={tiny_manifest}'
    small = ('--config.image_size=16', '--config.batch_size=16', table)
    door('main', lab, compile_cache, '--config=config.py', '--workdir=own', table)
    door(
        'main', lab, compile_cache, f'--config={ROOT}/configs/linear_probe.py:demo', *small,
        '--workdir=probe', '--config.init_from=own',
    )  # fmt: skip
    assert 'test/auc_macro_all' in json.loads((lab / 'probe/result.json').read_text())
    door(
        'main', lab, compile_cache, f'--config={ROOT}/configs/derm_finetune.py:demo', *small,
        '--workdir=tuned', '--config.init_from=own', '--config.total_steps=4',
    )  # fmt: skip
    said = (lab / 'tuned/init_from.tsv').read_text()
    assert 'params/encoder/conv2/kernel' in said  # the network of a demo became that of `own`
    for workdir, form in (('own', 'stablehlo'), ('tuned', 'stablehlo'), ('tuned', 'orbax')):
        out = f'out_{workdir}_{form}'
        said = door('export', lab, compile_cache, f'--workdir={workdir}', f'--format={form}',
                    f'--out={out}')  # fmt: skip
        assert (lab / out / 'predict.py').exists() and 'Verified in its own runtime' in said
    door(
        'study', lab, compile_cache, '--config=study.py', '--workdir=study',
        f'--config.every.dataset.manifest={tiny_manifest}',
    )  # fmt: skip
    assert (lab / 'study/report.html').exists()
    curves = (lab / 'study/figures/curves_pretraining.csv').read_text()
    assert 'loss against the queue (nats), train' in curves and 'BYOL loss, train' in curves
    assert 'lab.three_convolutions' in curves and 'vit-depth1-width64-patch8' in curves
