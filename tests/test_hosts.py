"""Two and four processes on one machine, four devices in all, against one process."""

import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from big_ssl.data import cases, datasets, feed
from big_ssl.data.sampler import Sampler
from big_ssl.main import parse
from big_ssl.train import mesh as mesh_lib
from tests import runs

STEPS = range(1, 4)
FOUR = ('--config.total_steps=4', '--config.monitor_every_steps=2')

DUMP_BATCHES = """
import sys
from big_ssl.train import distributed
distributed.start()
from tests import test_hosts
sys.exit(test_hosts.dump_batches(sys.argv[1:-1], sys.argv[-1]))
"""
SILENT = """
from big_ssl.report import page
from big_ssl.train import workdir, writers
def refuse(*args, **kwargs):
    raise AssertionError('only process 0 writes')
workdir.write = page.page = writers.JsonLines = writers._Events = refuse
"""


def make_feed(arguments: list[str]) -> tuple[feed.Batches, Sampler]:
    config, *_ = parse(['main', *arguments])
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(('train',))
    sampler = Sampler(cases.units_of_cases(manifest, rows), 3, config.batch_size, views=2)
    batches = feed.make_feed(
        config,
        datasets.open_images(config, manifest, rows),
        sampler,
        mesh_lib.make_mesh(),
        by_image={'row': np.arange(len(manifest))},
    )
    return batches, sampler


def drawn(training: feed.Batches) -> Iterator[tuple[int, dict[str, jax.Array]]]:
    """Steps, and their batches as the step sees them, cropped."""

    @jax.jit
    def crop(batch, step):
        batch = batch.drawn(step)
        return batch.each | {'groups': batch.groups, 'views': batch.views(16)}

    for step, batch in zip(STEPS, training(STEPS)):
        yield step, crop(batch, step)


def dump_batches(arguments: list[str], out: str) -> int:
    """What this process's devices hold of each batch, by step, name and place in the batch."""
    parts = {}
    for step, batch in drawn(make_feed(arguments)[0]):
        for name, array in batch.items():
            for shard in array.addressable_shards:
                start = shard.index[0].start or 0
                parts[f'{step}/{name}/{start}/{shard.device.id}'] = np.asarray(shard.data)
    np.savez(out, **parts)
    return 0


def column(workdir: Path, name: str) -> list[float]:
    return [line[name] for line in runs.metrics(workdir) if name in line]


@pytest.mark.parametrize(
    ('processes', 'placement'),
    [(2, 'device'), pytest.param(4, 'host', marks=pytest.mark.long)],
)
def test_the_same_batches(tmp_path, compile_cache, tiny_manifest, processes, placement):
    place = f'--config.dataset.placement={placement}'
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, place)
    outs = [str(tmp_path / f'{index}.npz') for index in range(processes)]
    dumps = tuple(f'import sys; sys.argv.append({out!r}){DUMP_BATCHES}' for out in outs)
    runs.run_job(arguments, compile_cache, processes, before=dumps)
    alone, sampler = make_feed(arguments)
    shards = [dict(np.load(out)) for out in outs]
    devices = [{name.split('/')[-1] for name in shard} for shard in shards]
    assert sum(map(len, devices)) == len(set.union(*devices)) == 4
    for step, batch in drawn(alone):
        indices = sampler.batch(step)
        expected = {name: np.asarray(value) for name, value in batch.items()}
        expected |= {'examples': indices.examples, 'row': indices.images[:, 0]}
        for name, value in expected.items():
            found = {
                int(key.split('/')[2]): part
                for process in shards
                for key, part in process.items()
                if key.startswith(f'{step}/{name}/')
            }
            together = np.concatenate([found[place] for place in sorted(found)])
            rounding = 1 if name == 'views' and placement == 'device' else 0  # programs differ
            np.testing.assert_allclose(together, value, rtol=0, atol=rounding, err_msg=name)
            assert len(found) == (1 if name == 'groups' else 4), name
        np.testing.assert_array_equal(expected['groups'], indices.groups)


@pytest.fixture(scope='module')
def pretrained_alone(tmp_path_factory, compile_cache, tiny_manifest) -> Path:
    workdir = tmp_path_factory.mktemp('alone')
    runs.run(runs.flags('derm_micle', workdir, tiny_manifest, *FOUR), compile_cache)
    return workdir


def assert_same_losses(workdir: Path, alone: Path) -> None:
    for name in ('loss', 'contrastive_top1', 'alignment', 'uniformity', 'effective_rank'):
        found, expected = column(workdir, name), column(alone, name)
        assert len(found) == len(expected) >= 3, name
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert column(workdir, 'knn_top1') == column(alone, 'knn_top1')


def test_pretraining_loses_the_same(tmp_path, pretrained_alone, compile_cache, tiny_manifest):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, *FOUR)
    runs.run_job(arguments, compile_cache, before=('', SILENT))
    assert_same_losses(tmp_path, pretrained_alone)
    names = {path.name.split('.')[0] for path in tmp_path.iterdir()}
    assert names == {
        'config', 'parameters', 'metrics', 'events', 'checkpoints', 'result', 'report', 'pairs'
    }  # fmt: skip
    assert len(list(tmp_path.glob('events.*'))) == 1


SHARDED = pytest.mark.parametrize(
    'shard',
    [
        pytest.param('none', marks=pytest.mark.long),
        pytest.param('all', marks=pytest.mark.chaos),
    ],
)


@pytest.mark.parametrize(
    ('processes', 'shard'),
    [
        pytest.param(4, 'none', marks=pytest.mark.long),
        pytest.param(2, 'all', marks=pytest.mark.chaos),
    ],
)
def test_finetuning_and_evaluation_judge_the_same(
    tmp_path, compile_cache, tiny_manifest, processes, shard
):
    workdirs = [tmp_path / 'one', tmp_path / 'several']
    arguments = [runs.flags('derm_finetune', workdir, tiny_manifest, *FOUR) for workdir in workdirs]
    runs.run(arguments[0], compile_cache)
    parts = [*arguments[1], f'--config.compute.shard={shard}']
    runs.run_job(parts, compile_cache, processes, before=['', *[SILENT] * (processes - 1)])
    one, two = (runs.result(workdir) for workdir in workdirs)
    assert one.keys() == two.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert runs.close(two[name], value, 1e-3), name
        else:
            assert two[name] == value, name
    tables = [pd.read_csv(workdir / 'predictions.csv') for workdir in workdirs]
    pd.testing.assert_frame_equal(*tables, rtol=1e-3, atol=1e-4)


def test_a_batch_that_does_not_divide_is_refused_by_both(tmp_path, compile_cache, tiny_manifest):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, '--config.batch_size=18')
    for code, output in runs.finish_job(runs.start_job(arguments, compile_cache)):
        assert code == 2, output
        assert 'error: config: batch_size=18 does not divide over 4 devices' in output
        assert 'Traceback' not in output


@SHARDED
def test_stopped_on_four_it_goes_on_with_two_and_with_one(
    tmp_path, straight, compile_cache, tiny_manifest, shard
):
    """Sharded, parameters lie in parts on all, and whole on the one."""
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    parts = [*arguments, f'--config.compute.shard={shard}']
    for processes, steps in ((4, 2), (2, 6)):
        slow = [runs.SLOW_STEPS] * processes
        job = runs.start_job(parts, compile_cache, processes, before=slow)
        runs.wait_until(lambda steps=steps: len(runs.steps_written(tmp_path)) >= steps, job[1])
        job[1].send_signal(signal.SIGTERM)  # one of them hears of it, and tells the others
        ends = runs.finish_job(job)
        assert [code for code, _ in ends] == [75] * processes, '\n'.join(out for _, out in ends)
        step = runs.checkpoints(tmp_path).latest()
        for number, (_, output) in enumerate(ends):
            assert f'stopped at step {step} of 12' in output and 'Traceback' not in output
            assert f'[{number} of {processes}, ' in output  # each line says whose it is
    assert f'resuming at step {step}' in runs.run(arguments, compile_cache)
    assert runs.steps_written(tmp_path) == list(range(1, 13))
    assert_same_losses(tmp_path, straight('derm_micle'))
    assert runs.result(tmp_path)['trained_on/step'] == 12


@pytest.mark.long
def test_saved_by_eight_devices_it_goes_on_with_four(
    tmp_path, straight, compile_cache, tiny_manifest
):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, '--config.compute.shard=all')
    devices = '--xla_force_host_platform_device_count='
    code, output = runs.interrupt(
        arguments,
        compile_cache,
        lambda: len(runs.steps_written(tmp_path)) >= 4,
        before=runs.SLOW_STEPS,
        XLA_FLAGS=f'{devices}8',
    )
    assert code == 75, output
    assert 'resuming at step' in runs.run(arguments, compile_cache, XLA_FLAGS=f'{devices}4')
    assert_same_losses(tmp_path, straight('derm_micle'))
