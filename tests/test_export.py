"""The door: from a fine-tuned run to a folder, and from image files to its predictions by that."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from big_ssl import export
from big_ssl.exports import verify
from tests import helpers, peers, runs
from tests.exports import made

ROOT = Path(__file__).parent.parent
NEEDS = {'safetensors': peers.torch, 'onnx': peers.onnx}


@pytest.fixture(scope='module')
def finetuned(tmp_path_factory) -> Path:
    """Workdir of a small fine-tuning on image files of many kinds, beside which they lie."""
    folder = tmp_path_factory.mktemp('export')
    table = made.image_files(folder / 'images')
    flags = {
        'dataset.manifest': table, 'dataset.window': '2000,42000', 'image_size': made.SIZE,
        'batch_size': 8, 'total_steps': 30, 'optimizer.learning_rate': 0.1,
        'monitor_every_steps': 15, 'checkpoint_every_steps': 15,
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, '-m', 'big_ssl.main', '--config=configs/derm_finetune.py:demo',
            f'--workdir={folder / "run"}', *(f'--config.{k}={v}' for k, v in flags.items()),
        ],
        cwd=ROOT,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': runs.QUICK_COMPILE},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / 'run'


def run(*flags: str, expected: int = 0) -> None:
    assert export.main(['export', *flags]) == expected


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.long] if name == 'savedmodel' else [])
             for name in export.FORMATS]
)  # fmt: skip
def test_it_gives_the_predictions_of_the_run_from_the_image_files_on(finetuned, tmp_path, name):
    """predictions.csv holds the mean of a case's images, of scores that Pillow's pixels gave.

    predict.py decodes, crops and resizes by the same Pillow to the same bytes; what is left is the
    order of sums in float32, some 1e-7 of the scores: 1e-5 bounds it.
    """
    NEEDS.get(name, lambda: None)()
    out = tmp_path / 'out'
    run(f'--workdir={finetuned}', f'--format={name}', f'--out={out}', '--head', '--license=MIT')
    images, table = finetuned.parent / 'images', tmp_path / 'scores.csv'
    done = made.run_predict(out, images, table)
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(table)
    manifest = pd.read_csv(images / 'table.csv')
    assert scores.image_path.tolist() == sorted(manifest.image_path)
    by_case = scores.merge(manifest, on='image_path').groupby('case_id')[['a', 'b']].mean()
    expected = pd.read_csv(finetuned / 'predictions.csv').set_index('case_id')
    assert set(expected.split) == {'val', 'test'} and expected.a.std() > 0.01
    np.testing.assert_allclose(by_case.loc[expected.index], expected[['a', 'b']], atol=1e-5)
    assert (scores.predicted == np.where(scores.a > scores.b, 'a', 'b')).all()

    for line in (out / 'SHA256SUMS').read_text().splitlines():
        digest, path = line.split('  ')
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == digest
    card = (out / 'model_card.md').read_text()
    result = json.loads((finetuned / 'result.json').read_text())
    low, high = (result[f'test/top1/{end}'] for end in ('low', 'high'))
    assert f'| test/top1 | {result["test/top1"]:.4g} | {low:.4g} to {high:.4g} |' in card
    for part in (result['trained_on/fingerprint'], '## Licence\n\nMIT', '## Limits', '--head',
                 'Verified in its own runtime'):  # fmt: skip
        assert part in card


def test_the_encoder_alone_gives_features(finetuned, tmp_path):
    run(f'--workdir={finetuned}', '--format=stablehlo', f'--out={tmp_path / "out"}')
    table = tmp_path / 'features.csv'
    made.run_predict(tmp_path / 'out', finetuned.parent / 'images', table)
    assert pd.read_csv(table).columns[1:].tolist() == [f'feature_{i}' for i in range(128)]


def checkpoints(workdir: Path) -> tuple[int, int]:
    """The step that was judged, and another one that is there."""
    judged = json.loads((workdir / 'result.json').read_text())['trained_on/step']
    steps = {int(path.name) for path in (workdir / 'checkpoints').iterdir()}
    assert judged in steps and len(steps) > 1
    return judged, min(steps - {judged})


def exported(source: Path, out: Path, *flags: str) -> tuple[str, dict]:
    """The section of the card that holds figures, and labels.json."""
    run(f'--workdir={source}', '--format=orbax', f'--out={out}', *flags)
    card = (out / 'model_card.md').read_text()
    section = card.split('## Figures\n\n')[1].split('\n\n## ')[0]
    return section, json.loads((out / 'labels.json').read_text())


@pytest.fixture
def unverified(monkeypatch):
    """Leaves out what takes seconds and is tested above."""
    monkeypatch.setattr(verify, 'difference', lambda *_: 0.0)


THRESHOLDS = 'thresholds_at_90_specificity_on_validation'


@pytest.mark.usefixtures('unverified')
def test_the_figures_are_those_of_the_step_that_was_judged(finetuned, tmp_path, capsys):
    judged, other = checkpoints(finetuned)
    names = {'whole': finetuned, 'judged': finetuned / f'checkpoints/{judged}'}
    found = {name: exported(path, tmp_path / name, '--head') for name, path in names.items()}
    result = json.loads((finetuned / 'result.json').read_text())
    assert found['whole'] == found['judged']
    assert f'| test/top1 | {result["test/top1"]:.4g} |' in found['judged'][0]
    expected = {name: result[f'val/threshold_at_90_specificity/{name}'] for name in 'ab'}
    assert found['judged'][1][THRESHOLDS] == expected
    assert 'not judged' not in capsys.readouterr().err


@pytest.mark.usefixtures('unverified')
@pytest.mark.parametrize('flags', [['--head'], []])
def test_a_checkpoint_that_was_not_judged_has_no_figures(finetuned, tmp_path, capsys, flags):
    judged, other = checkpoints(finetuned)
    source = finetuned / f'checkpoints/{other}'
    section, labels = exported(source, tmp_path / 'out', *flags)
    said = f'the checkpoint of step {other} was not judged; the run judged step {judged}.'
    assert section == f'None: {said}'
    assert labels[THRESHOLDS] == {}
    (line,) = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert f'export {finetuned} itself' in line
    assert f'shift_evaluate.py --config.init_from={source} ' in line


@pytest.mark.usefixtures('unverified')
def test_a_result_of_another_or_of_no_step_gives_no_figures(finetuned, tmp_path, capsys):
    """That of a run that went on since, and that of an earlier version."""
    workdir, path = tmp_path / 'run', tmp_path / 'run/result.json'
    shutil.copytree(finetuned, workdir)
    judged, _ = checkpoints(workdir)
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {'trained_on/step': judged - 1}))
    section, labels = exported(workdir, tmp_path / 'stale', '--head')
    assert section.endswith(f'of step {judged} was not judged; the run judged step {judged - 1}.')
    assert labels[THRESHOLDS] == {} and 'run the training command again' in capsys.readouterr().err
    path.write_text(json.dumps({k: v for k, v in result.items() if k != 'trained_on/step'}))
    section, labels = exported(workdir, tmp_path / 'old', '--head')
    assert section == (
        f'None: whether step {judged} was judged is not known: result.json names no step.'
    )
    assert labels[THRESHOLDS] == {}


def test_a_result_that_cannot_be_read_is_one_line(finetuned, tmp_path, capsys):
    workdir, out = tmp_path / 'run', tmp_path / 'out'
    shutil.copytree(finetuned, workdir)
    (workdir / 'result.json').write_text('{"test/top1": ')
    run(f'--workdir={workdir}', '--format=orbax', f'--out={out}', expected=2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f'error: {workdir / "result.json"}: cannot be read: ')
    assert not out.exists()


def test_what_predict_says_of_wrong_input(finetuned, tmp_path):
    run(f'--workdir={finetuned}', '--format=stablehlo', f'--out={tmp_path / "out"}', '--head')
    images, table = tmp_path / 'images', tmp_path / 'scores.csv'
    images.mkdir()
    done = made.run_predict(tmp_path / 'out', images, table)
    assert done.returncode == 2 and done.stderr.startswith(f'error: {images}: no image that ends')
    helpers.save(images / 'a.png', helpers.smooth(30, 30))
    (images / 'b.jpg').write_bytes(b'no image')
    done = made.run_predict(tmp_path / 'out', images, table)
    assert done.returncode == 2 and done.stderr.startswith(f'error: {images / "b.jpg"}: ')
    assert len(done.stderr.splitlines()) == 1 and not table.exists()


@pytest.mark.parametrize(
    'flags, message',
    [
        (['--format=onxx'], 'is not one of safetensors, onnx, stablehlo, savedmodel, orbax, did'),
        (['--formt=onnx'], 'unknown flag --formt, did you mean format?'),
        (['--format=orbax', '--bake'], '--bake: orbax holds parameters alone'),
        (['--format=orbax', '--out=images'], '--out=images is already there'),
        (['--format=orbax', '--workdir=nowhere'], 'no checkpoints there'),
        (['--format=orbax', 'more'], "unexpected argument 'more'"),
        (['--format=orbax', '--out=images/table.csv/out'], 'cannot be written'),
        ([], '--format is missing; for example: python -m big_ssl.export'),
    ],
)
def test_wrong_input_is_one_line(finetuned, monkeypatch, tmp_path, capsys, flags, message):
    monkeypatch.chdir(finetuned.parent)
    before = sorted(finetuned.parent.rglob('*'))
    run(f'--workdir={finetuned}', f'--out={tmp_path / "out"}', *flags, expected=2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('error: ') and message in error
    assert sorted(finetuned.parent.rglob('*')) == before and not list(tmp_path.iterdir())


def test_what_differs_from_its_source_is_not_written(finetuned, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify, 'LIMIT', -1.0)
    out = tmp_path / 'out'
    run(f'--workdir={finetuned}', '--format=stablehlo', f'--out={out}', expected=2)
    assert 'differs from its source' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_the_runtime_it_says_that_nothing_was_verified(finetuned, tmp_path, monkeypatch):
    monkeypatch.setattr(verify, 'difference', lambda *_: None)
    run(f'--workdir={finetuned}', '--format=stablehlo', f'--out={tmp_path / "out"}')
    assert 'NOT VERIFIED: what runs it is not all' in (tmp_path / 'out/model_card.md').read_text()


def test_help(capsys):
    assert export.main(['export', '--help']) == 0
    out = capsys.readouterr().out
    for flag in ('--workdir', '--format', '--out', '--head', '--bake', '--license'):
        assert flag in out
