"""Runs that an earlier version began go on under this one, with what that version computed next.

`tests/earlier/NAME.tar.xz` is the workdir of a run that the code of 7d1c4e8 stopped after step 2 of
4, as that code wrote it: a ResNet of two blocks (0.25x), 32 px, embedded data. Weights of more than
one axis have the sign and the scale that training left, the optimiser's momenta are zero, so that
it is small. The losses of steps 3 and 4 are those that the same code went on with (Xeon, jax
0.10.2).
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import helpers, runs

HERE = Path(__file__).parent / 'earlier'
COMMON = {
    'model.stem': 'small_images',
    'image_size': 32,
    'batch_size': 8,
    'total_steps': 4,
    'warmup_steps': 0,
    'log_every_steps': 1,
    'monitor_every_steps': 4,
    'checkpoint_every_steps': 2,
    'model.dtype': 'float32',
    'keep_checkpoints': 1,
}
# Config, what its command line sets besides, losses of steps 3 and 4, and one figure after them.
BEGUN = {
    'simclr': (
        'derm_simclr',
        {'optimizer.name': 'lars', 'optimizer.learning_rate': 0.3},
        (1.769797444343567, 3.320801258087158),
        ('effective_rank', 2.3254899678557877),
    ),
    'micle': (
        'derm_micle',
        {'temperature': 0.3, 'model.projection_layers': 3, 'mask_same_patient': False},
        (3.062128782272339, 3.7018685340881348),
        ('effective_rank', 2.8602205836367975),
    ),
    'finetuning': (
        'derm_finetune',
        {'label_smoothing': 0.1, 'select': 'last'},
        (2.0741047859191895, 2.0848159790039062),
        ('auc_macro_all', 0.5043650793650793),
    ),
}


@pytest.mark.parametrize('name', BEGUN)
def test_it_goes_on(name, tmp_path, compile_cache, one_pixel):
    config, more, losses, (figure, value) = BEGUN[name]
    helpers.unpack(HERE / f'{name}.tar.xz', tmp_path)
    workdir = tmp_path / name
    if name != 'finetuning':
        (workdir / 'pairs.png').write_bytes(one_pixel)
    chosen = [f'--config.{key}={value}' for key, value in {**COMMON, **more}.items()]
    output = runs.run(
        [f'--config=configs/{config}.py:demo', f'--workdir={workdir}', *chosen], compile_cache
    )
    assert 'resuming at step 2' in output
    lines = {(line['step'], line['split']): line for line in runs.read_metrics(workdir)}
    found = [lines[step, 'train']['loss'] for step in (3, 4)]
    np.testing.assert_allclose(found, losses, rtol=1e-3)
    np.testing.assert_allclose(lines[4, 'val'][figure], value, rtol=0.02)
    assert (workdir / 'result.json').exists()


@pytest.fixture
def one_pixel() -> bytes:
    """A PNG, in place of pairs.png, which the run drew at its step 0."""
    file = io.BytesIO()
    Image.new('RGB', (1, 1)).save(file, 'PNG')
    return file.getvalue()
