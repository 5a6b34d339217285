"""The benchmark for CPUs: what it compares with, how it accounts for time, and its door."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import start
from benchmarks.photographs import textured, write_photographs
from tests import peers
from tests.helpers import host_views

ROOT = Path(__file__).parents[2]


def jpeg(height, width):
    file = io.BytesIO()
    Image.fromarray(textured(height, width)).save(file, 'JPEG')
    return file.getvalue()


@pytest.mark.parametrize('blur', [False, True])
def test_simclr_in_tensorflow(blur):
    from benchmarks.simclr_tensorflow import make_pair

    pair = make_pair(48, blur=blur)
    pairs = np.stack([pair(jpeg(60, 90)).numpy() for _ in range(20)])
    assert pairs.shape == (20, 2, 48, 48, 3) and pairs.dtype == np.float32
    assert pairs.min() >= 0 and pairs.max() <= 1
    views = pairs.reshape(40, -1)
    assert len(np.unique(views, axis=0)) == 40
    grey = (np.ptp(pairs.reshape(40, -1, 3), axis=-1) < 1e-6).all(axis=-1)
    assert 0 < grey.sum() < 24


def test_blur_keeps_the_mean_and_takes_the_detail():
    import tensorflow as tf

    from benchmarks.simclr_tensorflow import _blur

    tf.random.set_seed(0)
    image = np.random.default_rng(0).random((100, 100, 3)).astype(np.float32)
    blurred = np.stack([_blur(tf.constant(image)).numpy()[10:-10, 10:-10] for _ in range(8)])
    assert np.allclose(blurred.mean(axis=(1, 2, 3)), image.mean(), atol=0.01)
    assert blurred.std(axis=(1, 2, 3)).min() < 0.3 * image.std()


@pytest.mark.parametrize('pairing', ['augment', 'case'])
def test_bare_functions_make_what_the_pipeline_makes(tmp_path, pairing, monkeypatch):
    from benchmarks import host_images
    from big_ssl.data import views

    table = write_photographs(tmp_path / 'images', 8, 300, 400, images_per_case=2)
    images = host_images.open_images(pairing, 4, manifest=table)
    made = []
    crop = views.crop

    def cropped(*arguments):
        crop(*arguments)
        made.append(arguments[-1].copy())

    monkeypatch.setattr(views, 'crop', cropped)
    assert host_images.crop_views(images, images.encoded(), images.plan(3)) == 4
    monkeypatch.setattr(views, 'crop', crop)
    sides = {'size': host_images.SIZE, 'crop': host_images.CROP}
    (expected,) = host_views(images.table, images.sampler, range(3, 4), slice(None), **sides)
    assert np.array_equal(np.stack(made).reshape(expected.shape), expected)


def test_each_second_of_a_start_counts_once():
    spans = [('imports', 0.0, 3.0), ('state', 4.0, 9.0), ('table', 5.0, 6.0), ('table', 9.5, 10.0)]
    found = start.account(spans, 12.0)
    assert found == {'imports': 3.0, 'state': 4.0, 'table': 1.5, 'between_these': 3.5}
    assert sum(found.values()) == 12.0


def test_unknown_parts_are_refused():
    ended = benchmark('--only=host,hots')
    assert ended.returncode == 2 and 'hots' in ended.stderr


@pytest.mark.long
def test_parts_end_to_end(tmp_path):
    peers.torch()
    pytest.importorskip('lightly', reason='needs the extra bench')
    file = tmp_path / 'results.json'
    parts = ('host', 'pipeline', 'loss', 'memory')
    ended = benchmark(f'--only={",".join(parts)}', '--quick', f'--json={file}')
    assert ended.returncode == 0, ended.stderr
    found = json.loads(file.read_text())
    assert {name.partition('/')[0] for name in found['figures']} == set(parts)
    assert all(each['low'] <= each['median'] <= each['high'] for each in found['figures'].values())
    assert {target['what'] for target in found['targets']} <= set(found['figures'])
    for part in parts:
        assert f'\n{part}: ' in ended.stdout


@pytest.mark.long
def test_a_start_adds_up(tmp_path):
    file = tmp_path / 'results.json'
    ended = benchmark('--only=start', '--quick', f'--json={file}')
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(file.read_text())['figures']
    whole = figures.pop('start/warm/first_step/wall_s')['median']
    parts = [value['median'] for name, value in figures.items()
             if name.startswith('start/warm/') and '/beside/' not in name]  # fmt: skip
    assert sum(parts) == pytest.approx(whole)


def benchmark(*flags):
    environment = {**os.environ, 'XLA_FLAGS': '--xla_backend_optimization_level=1'}
    command = [sys.executable, '-m', 'benchmarks', *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
