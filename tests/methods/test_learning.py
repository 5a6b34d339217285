"""Each method learns: neighbours of val among train agree more with its class than they did.

On the synthetic set chance is an eighth, and random weights have 0.15. SimCLR and MICLe are in
tests/test_chain.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import helpers, runs

pytestmark = pytest.mark.long

LEARNT = {'dcl': (120, 0.2), 'supcon': (120, 0.25), 'vicreg': (200, 0.2)}  # steps, accuracy
SAMPLE = runs.ROOT.parent / 'shared/data/natural_grocery96.tar'


def trained(config: str, workdir: Path, *flags: str) -> dict:
    """`result.json` of a demo, as a process on one device."""
    done = subprocess.run(
        [
            sys.executable, '-m', 'big_ssl.main', f'--config=configs/{config}.py:demo',
            f'--workdir={workdir}', '--config.dataset.placement=device', *flags,
        ],
        cwd=runs.ROOT,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((workdir / 'result.json').read_text())


def start_and_end(workdir: Path, key: str = 'knn_balanced_accuracy') -> tuple[float, float]:
    lines = [line for line in runs.metrics(workdir) if line['split'] == 'val']
    return lines[0][key], lines[-1][key]


@pytest.mark.parametrize('name', LEARNT)
def test_neighbours_agree_more(name, tmp_path):
    steps, least = LEARNT[name]
    often = (f'--config.total_steps={steps}', f'--config.monitor_every_steps={steps}')
    trained(f'derm_{name}', tmp_path, *often)
    start, end = start_and_end(tmp_path)
    assert start < 0.17 and end > least


@pytest.mark.skipif(not SAMPLE.exists(), reason='the sample of grocery photographs is not here')
def test_byol_learns_from_photographs(tmp_path):
    """Of 43 kinds of groceries. On the synthetic set it does not begin to within 400 steps."""
    helpers.unpack(SAMPLE, tmp_path)
    trained(
        'derm_byol', tmp_path / 'run', '--config.total_steps=250', '--config.image_size=64',
        '--config.monitor_every_steps=250', '--config.crop.area=(0.3,1)',
        f'--config.dataset.manifest={tmp_path}/natural_grocery96/manifest.csv',
    )  # fmt: skip
    start, end = start_and_end(tmp_path / 'run')
    assert start < 0.09 and end > 1.5 * start


def test_a_pupil_comes_close_to_its_teacher(tmp_path):
    """A classifier, and what a network of other weights learns of it without labels."""
    teacher, pupil, judged = (tmp_path / name for name in ('teacher', 'pupil', 'judged'))
    theirs = trained('derm_finetune', teacher, '--config.total_steps=200')
    result = trained(
        'derm_distill', pupil, '--config.total_steps=200', f'--config.method.teacher={teacher}'
    )
    assert result['trained_on/teacher'] == str(teacher)
    assert result['trained_on/teacher/splits'] == 'train'
    ours = trained('derm_finetune', judged, '--config.task=evaluate', f'--config.init_from={pupil}')
    key = 'test/auc_macro_all'
    assert theirs[key] > 0.6 and ours[key] > 0.5 + 0.6 * (theirs[key] - 0.5)
