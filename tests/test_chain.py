"""The doors one after the other on the synthetic set: MICLe, few labels, evaluation.

Pre-training must help where labels are few, by more than chance: the 95% intervals of the test
AUC, resampled over patients, must not meet; every figure must follow from `predictions.csv`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
FEW_LABELS = '--config.label_fraction=0.1'


def start(config: str, workdir: Path, *flags: str) -> subprocess.CompletedProcess:
    """A demo as a process of its own, on one device."""
    command = [sys.executable, '-m', 'big_ssl.main', f'--config=configs/{config}.py:demo']
    return subprocess.run(
        [*command, f'--workdir={workdir}', *flags],
        cwd=ROOT,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''},
        capture_output=True,
        text=True,
        check=False,
    )


def run(config: str, workdir: Path, *flags: str) -> dict:
    """`result.json` of a demo."""
    done = start(config, workdir, *flags)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((workdir / 'result.json').read_text())


@pytest.fixture(scope='module')
def chain(tmp_path_factory):
    """Workdirs and results of the whole chain, and of the same without pre-training."""
    folder = tmp_path_factory.mktemp('chain')
    names = ('micle', 'finetuned', 'scratch', 'elsewhere')
    micle, finetuned, scratch, elsewhere = (folder / name for name in names)
    results = {
        'micle': run('derm_micle', micle, '--config.total_steps=600'),
        'finetuned': run('derm_finetune', finetuned, FEW_LABELS, f'--config.init_from={micle}'),
        'scratch': run('derm_finetune', scratch, FEW_LABELS, '--config.dataset.placement=device'),
        'elsewhere': run(
            'derm_finetune',
            elsewhere,
            '--config.task=evaluate',
            f'--config.init_from={finetuned}',
        ),
    }
    return folder, results


def test_pretraining_raises_knn_accuracy(chain):
    folder, results = chain
    records = [json.loads(line) for line in (folder / 'micle/metrics.jsonl').open()]
    untrained = next(r for r in records if r['split'] == 'val' and r['step'] == 0)
    assert untrained['knn_top1'] < 0.2  # 8 classes: chance is 0.125
    # Of 214 queries: four standard errors of the difference of two such shares.
    assert results['micle']['val/knn_top1'] > untrained['knn_top1'] + 4 * np.sqrt(0.15 * 0.85 / 214)


def test_pretraining_beats_random_initialisation_at_few_labels(chain):
    _, results = chain
    with_micle, without = results['finetuned'], results['scratch']
    for result in (with_micle, without):
        assert result['trained_on/synthetic'] and result['trained_on/label_fraction'] == 0.1
        assert result['trained_on/patients'] < 60 and result['test/n_cases'] > 100
    assert with_micle['test/auc_macro/low'] > without['test/auc_macro/high']
    assert with_micle['test/top1'] > without['test/top1']


def test_figures_follow_from_the_predictions(chain):
    folder, results = chain
    for name in ('finetuned', 'scratch', 'elsewhere'):
        table = pd.read_csv(folder / name / 'predictions.csv')
        table = table[table.split == 'test']
        classes = sorted(set(table.label))
        scores = table[classes].to_numpy()
        assert len(table) == results[name]['test/n_cases'] == table.case_id.nunique()
        predicted = np.array(classes)[scores.argmax(axis=1)]
        expected = {
            'top1': (predicted == table.label).mean(),
            'balanced_accuracy': balanced_accuracy_score(table.label, predicted),
            'auc_macro': roc_auc_score(table.label, scores / scores.sum(1, keepdims=True),
                                       multi_class='ovr'),
        }  # fmt: skip
        for metric, value in expected.items():
            assert results[name][f'test/{metric}'] == pytest.approx(value, abs=1e-9), (name, metric)


def test_what_the_weights_have_seen_goes_through_to_the_last_result(chain):
    folder, results = chain
    for name in ('finetuned', 'elsewhere'):
        seen = results[name]
        assert seen['trained_on/init_from'] == str(folder / 'micle')
        assert seen['trained_on/before/splits'] == 'train' and seen['trained_on/before/step'] == 600
        assert seen['trained_on/before/images'] > 5 * seen['trained_on/images']
    assert results['elsewhere']['trained_on/step'] == results['finetuned']['trained_on/step']
    assert not any(name.startswith('trained_on/before') for name in results['scratch'])


def test_evaluation_alone_repeats_the_figures(chain):
    _, results = chain
    shared = [name for name in results['finetuned'] if name.startswith('test/')]
    assert len(shared) > 20
    for name in shared:
        assert results['elsewhere'][name] == pytest.approx(results['finetuned'][name], abs=1e-6)


def test_everything_that_a_workdir_holds(chain):
    folder, _ = chain
    for name in ('micle', 'finetuned', 'scratch'):
        for file in ('config.json', 'metrics.jsonl', 'result.json', 'report.html', 'checkpoints'):
            assert (folder / name / file).exists(), (name, file)
        assert list((folder / name).glob('events.out.tfevents.*'))
    assert (folder / 'micle/pairs.png').read_bytes().startswith(b'\x89PNG')
    page = (folder / 'finetuned/report.html').read_text()
    assert 'SYNTHETIC' in page and 'data:image/png;base64,' in page
    assert 'http://' not in page and 'https://' not in page


def test_another_architecture_is_refused(chain, tmp_path):
    folder, _ = chain
    flags = [f'--config.init_from={folder / "micle"}', '--config.model.depth=34']
    done = start('derm_finetune', tmp_path / 'w', *flags)
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert done.returncode == 2 and len(errors) == 1 and 'Traceback' not in done.stderr
    assert str(folder / 'micle') in errors[0] and '--config.model.depth=18' in errors[0]
