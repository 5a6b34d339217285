"""Runs that are killed, stopped, broken or finished, and the same command again."""

import json
import random
import signal
import time

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from tests import runs

SLOW_EVALUATION = """
import time
from big_ssl.tasks import judge
score = judge.score
def slowly(*args):
    time.sleep(4 * (args[2].name == 'test'))
    return score(*args)
judge.score = slowly
"""


@pytest.mark.parametrize(
    'placement',
    [
        pytest.param('host', marks=pytest.mark.long),
        pytest.param('device', marks=pytest.mark.chaos),
    ],
)
def test_killed_again_and_again_it_ends_with_the_same_bits(
    straight, tmp_path, compile_cache, tiny_manifest, placement
):
    """`kill -9` after a random delay behind a line of metrics or a new checkpoint folder."""
    rng = random.Random(placement)
    place = f'--config.dataset.placement={placement}'
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, place)
    folder = tmp_path / 'checkpoints'

    def progress() -> int:
        lines = tmp_path / 'metrics.jsonl'
        return (lines.stat().st_size if lines.exists() else 0) + sum(
            'tmp' in path.name for path in folder.glob('*')
        )

    kills = 0
    while kills < 2:
        process = runs.start(arguments, compile_cache)
        for _ in range(rng.randrange(1, 5)):
            seen = progress()
            runs.wait_until(lambda seen=seen: progress() != seen, process)
        time.sleep(rng.uniform(0, 0.1))
        if process.poll() is None:
            kills += 1
        process.kill()
        code, output = runs.finish(process)
        assert code in (0, -signal.SIGKILL), output
        if code == 0:
            break
    assert kills
    runs.run(arguments, compile_cache)
    runs.assert_same_run(tmp_path, straight('derm_micle', place))


@pytest.mark.parametrize(
    'number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.chaos)]
)
def test_told_to_stop_it_saves_and_goes_on(
    straight, tmp_path, compile_cache, tiny_manifest, number
):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    code, output = runs.interrupt(
        arguments,
        compile_cache,
        lambda: len(runs.steps_written(tmp_path)) >= 2,
        number,
        before=runs.SLOW_STEPS,
    )
    assert code == 75, output
    assert 'Traceback' not in output
    assert output.splitlines()[-1].endswith('run the same command again to go on')
    step = runs.checkpoints(tmp_path).latest()
    assert step is not None and 2 <= step < 12
    assert f'stopped at step {step} of 12, saved' in output
    assert runs.steps_written(tmp_path)[-1] == step
    assert not (tmp_path / 'result.json').exists()
    assert 'resuming at step' in runs.run(arguments, compile_cache)
    runs.assert_same_run(tmp_path, straight('derm_micle'))


def test_a_run_that_an_earlier_version_began_goes_on_with_the_same_bits(
    straight, tmp_path, compile_cache, tiny_manifest
):
    """The same command again: a key is new, which the config file sets otherwise, and one is gone.

    Of crops from 0.08 of the image on, some are below the tenth that the config file asks for now.
    """
    area = '--config.crop.area=(0.08, 1.0)'
    every = '--config.crop.min_object_covered=0.0'  # what was done before the key existed
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, area)
    code, output = runs.interrupt(
        [*arguments, every],
        compile_cache,
        lambda: len(runs.steps_written(tmp_path)) >= 2,
        before=runs.SLOW_STEPS,
    )
    assert code == 75, output
    path = tmp_path / 'config.json'
    stored = json.loads(path.read_text())
    del stored['crop']['min_object_covered']
    path.write_text(json.dumps({**stored, 'bootstrap_replicates': 1000}))
    output = runs.run([*arguments, '--config.bootstrap_replicates=20'], compile_cache)
    assert 'crop.min_object_covered=0.0, as in the version that began this run' in output
    assert 'resuming at step' in output
    runs.assert_same_run(tmp_path, straight('derm_micle', area, every))
    assert runs.metrics(tmp_path) != runs.metrics(straight('derm_micle', area))


@pytest.mark.long
def test_told_to_stop_while_evaluating_the_next_run_only_evaluates(
    straight, tmp_path, compile_cache, tiny_manifest
):
    arguments = runs.flags('derm_finetune', tmp_path, tiny_manifest)
    code, output = runs.interrupt(
        arguments,
        compile_cache,
        lambda: 12 in runs.steps_written(tmp_path),
        before=SLOW_EVALUATION,
    )
    assert code == 75, output
    assert 'stopped while evaluating' in output
    assert runs.checkpoints(tmp_path).latest() == 12
    assert not (tmp_path / 'result.json').exists()
    before = runs.files(tmp_path / 'checkpoints')
    output = runs.run(arguments, compile_cache)
    assert 'fine-tuning step' not in output
    assert runs.files(tmp_path / 'checkpoints') == before
    runs.assert_same_run(tmp_path, straight('derm_finetune'))
    predictions = [path / 'predictions.csv' for path in (tmp_path, straight('derm_finetune'))]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


@pytest.mark.long
@pytest.mark.parametrize('config', ['derm_micle', 'derm_finetune'])
def test_diverged_it_keeps_the_last_good_checkpoint(tmp_path, compile_cache, tiny_manifest, config):
    arguments = runs.flags(
        config,
        tmp_path,
        tiny_manifest,
        '--config.optimizer.name=sgd',
        '--config.optimizer.learning_rate=1e30',
        '--config.monitor_every_steps=1',
        '--config.checkpoint_every_steps=1',
    )
    for _ in range(2):
        output = runs.run(arguments, compile_cache, expected=3)
        lines = output.strip().splitlines()
        assert lines[-1].startswith('error: training diverged: ')
        assert sum('diverged' in line for line in lines) == 1
        assert 'Traceback' not in output and 'Warning' not in output
        checkpoints = runs.checkpoints(tmp_path)
        step = checkpoints.latest()
        assert step is not None and f'training step {step + 2}' not in output
        weights = checkpoints.weights(step)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(weights))
    assert not (tmp_path / 'result.json').exists()


@pytest.mark.parametrize('config', ['derm_micle', 'derm_finetune'])
def test_a_finished_run_is_left_alone(straight, compile_cache, tiny_manifest, config):
    workdir = straight(config)
    before = runs.files(workdir)
    output = runs.run(runs.flags(config, workdir, tiny_manifest), compile_cache)
    assert 'already done' in output
    assert runs.files(workdir) == before


def test_what_tensorboard_shows(straight):
    """Pictures, settings, and the numbers of each line."""
    shown = {}
    for config in ('derm_micle', 'derm_finetune'):
        accumulator = EventAccumulator(str(straight(config)), {'tensors': 0}).Reload()
        tags = accumulator.Tags()['tensors']
        assert '_hparams_/session_start_info' in tags
        numbers = [
            (step, split, name, value)
            for step, split, *values in map(dict.values, runs.metrics(straight(config)))
            for name, value in zip([*runs.metrics(straight(config))[1]][2:], values)
            if split == 'train'
        ]
        assert len(numbers) > 48
        for step, split, name, value in numbers:
            (event,) = [e for e in accumulator.Tensors(f'{split}/{name}') if e.step == step]
            assert float(tensor_util.make_ndarray(event.tensor_proto)) == np.float32(value)
        shown[config] = {tag for tag in tags if not tag.startswith(('train/', 'val/', '_hparams'))}
    assert shown['derm_micle'] == {'pairs'}
    assert {'Figures/95% intervals', 'Split val/Confusion', 'Split test/Reliability'} <= shown[
        'derm_finetune'
    ]


def test_a_run_with_another_config_is_refused(straight, compile_cache, tiny_manifest):
    workdir = straight('derm_micle')
    before = runs.files(workdir)
    other = runs.flags('derm_micle', workdir, tiny_manifest, '--config.seed=1')
    output = runs.run(other, compile_cache, expected=2)
    assert output.startswith('error: ') and 'seed=1 (0 there)' in output
    assert runs.files(workdir) == before


def test_a_damaged_checkpoint_is_passed_over(straight, tmp_path, compile_cache, tiny_manifest):
    """The run goes on from the one before, says so, and ends the same."""
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    second = tmp_path / 'checkpoints/6'  # there when it is written; steps do not wait for it

    def ready() -> bool:
        return 7 in runs.steps_written(tmp_path) and second.exists()

    code, _ = runs.interrupt(arguments, compile_cache, ready, signal.SIGKILL)
    assert code == -signal.SIGKILL
    step = runs.checkpoints(tmp_path).latest()
    newest = tmp_path / 'checkpoints' / str(step)
    largest = max(newest.rglob('*'), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    output = runs.run(arguments, compile_cache)
    assert f'{newest}: ' in output and f'this one put into {tmp_path / "damaged"}' in output
    assert 'Traceback' not in output and 'resuming at step 3' in output
    assert (tmp_path / 'damaged' / str(step)).exists()
    runs.assert_same_run(tmp_path, straight('derm_micle'))


@pytest.mark.chaos
def test_it_goes_on_computed_in_another_way(straight, tmp_path, compile_cache, tiny_manifest):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    code, output = runs.interrupt(
        arguments,
        compile_cache,
        lambda: len(runs.steps_written(tmp_path)) > 2,
        before=runs.SLOW_STEPS,
    )
    assert code == 75, output
    other = ('--config.compute.remat=blocks', '--config.compute.scan_blocks=True')
    runs.run([*arguments, *other], compile_cache)
    undisturbed = straight('derm_micle')
    last = [runs.checkpoints(each) for each in (tmp_path, undisturbed)]
    one, two = (each.weights(each.latest()) for each in last)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), one, two)
    for ours, theirs in zip(runs.metrics(tmp_path), runs.metrics(undisturbed)):
        assert ours.keys() == theirs.keys() and ours['step'] == theirs['step']
        assert abs(ours.get('loss', 0) - theirs.get('loss', 0)) < 1e-3


def test_two_runs_do_not_share_a_workdir(tmp_path, compile_cache, tiny_manifest):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, '--config.total_steps=400')
    process = runs.start(arguments, compile_cache, before=runs.SLOW_STEPS)
    try:
        runs.wait_until(lambda: len(runs.steps_written(tmp_path)) > 0, process)
        output = runs.run(arguments, compile_cache, expected=2)
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    last = output.strip().splitlines()[-1]
    assert last.startswith(f'error: {tmp_path}: another run is at work') and '--workdir' in last
