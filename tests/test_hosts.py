"""Two processes on one machine, two devices each, against one process."""

import json
import signal
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from big_ssl.data import cases, datasets, feed
from big_ssl.data.sampler import Sampler
from big_ssl.main import parse
from big_ssl.train import mesh as mesh_lib
from tests import runs
from tests.test_resume import SLOW_STEPS

STEPS = range(1, 4)
FOUR = ('--config.total_steps=4', '--config.monitor_every_steps=2')
DEVICES = '--xla_force_host_platform_device_count=2'

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
workdir.write = page.page = writers.EventFileWriter = refuse
"""


def make_feed(arguments: list[str]) -> feed.Feed:
    config, *_ = parse(['main', *arguments])
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(('train',))
    sampler = Sampler(cases.units_of_cases(manifest, rows), 3, config.batch_size, views=2)
    return feed.Feed(
        config,
        datasets.open_images(config, manifest, rows),
        sampler,
        mesh_lib.make_mesh(),
        whole=lambda indices: {'groups': indices.groups, 'all': indices.examples},
        part=lambda indices: {'images': indices.images, 'own_groups': indices.groups},
    )


def dump_batches(arguments: list[str], out: str) -> int:
    """What this process's devices hold of each batch, by step, name and place in the batch."""
    parts = {}
    for step, batch in zip(STEPS, make_feed(arguments).batches(STEPS)):
        for name, array in batch.items():
            for shard in array.addressable_shards:
                start = shard.index[0].start or 0
                parts[f'{step}/{name}/{start}/{shard.device.id}'] = np.asarray(shard.data)
    np.savez(out, **parts)
    return 0


def start_two(arguments: list[str], cache: str, *, before: tuple[str, str] = ('', '')) -> list:
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    return [
        runs.start(
            arguments,
            cache,
            before=before[index],
            XLA_FLAGS=DEVICES,
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES='2',
            JAX_PROCESS_ID=str(index),
        )
        for index in range(2)
    ]


def finish_two(processes: list) -> list[tuple[int, str]]:
    return [runs.finish(process) for process in processes]


def run_two(arguments: list[str], cache: str, **options) -> list[str]:
    ends = finish_two(start_two(arguments, cache, **options))
    assert [code for code, _ in ends] == [0, 0], '\n'.join(output for _, output in ends)
    return [output for _, output in ends]


def column(workdir: Path, name: str) -> list[float]:
    return [line[name] for line in runs.metrics(workdir) if name in line]


@pytest.mark.parametrize('placement', ['host', 'device'])
def test_the_same_batches(tmp_path, compile_cache, tiny_manifest, placement):
    place = f'--config.dataset.placement={placement}'
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, place)
    outs = [str(tmp_path / f'{index}.npz') for index in range(2)]
    dumps = tuple(f'import sys; sys.argv.append({out!r}){DUMP_BATCHES}' for out in outs)
    run_two(arguments, compile_cache, before=dumps)
    alone = make_feed(arguments)
    sampler = alone._sampler
    shards = [dict(np.load(out)) for out in outs]
    assert {name.split('/')[-1] for name in shards[0]}.isdisjoint(
        name.split('/')[-1] for name in shards[1]
    )
    for step, batch in zip(STEPS, alone.batches(STEPS)):
        indices = sampler.batch(step)
        expected = {name: np.asarray(value) for name, value in batch.items()}
        expected |= {
            'examples': indices.examples,
            'images': indices.images,
            'own_groups': indices.groups,
        }
        for name, value in expected.items():
            found = {
                int(key.split('/')[2]): part
                for process in shards
                for key, part in process.items()
                if key.startswith(f'{step}/{name}/')
            }
            together = np.concatenate([found[place] for place in sorted(found)])
            np.testing.assert_array_equal(together, value, err_msg=name)
            count = 1 if name in ('groups', 'all', 'stored') else 4
            assert len(found) == count, name
        np.testing.assert_array_equal(expected['all'], indices.examples)
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
    run_two(arguments, compile_cache, before=('', SILENT))
    assert_same_losses(tmp_path, pretrained_alone)
    names = {path.name.split('.')[0] for path in tmp_path.iterdir()}
    assert names == {
        'config', 'metrics', 'events', 'checkpoints', 'result', 'report', 'pairs'
    }  # fmt: skip
    assert len(list(tmp_path.glob('events.*'))) == 1


SHARDED = pytest.mark.parametrize('shard', ['none', pytest.param('all', marks=pytest.mark.chaos)])


@SHARDED
def test_finetuning_and_evaluation_judge_the_same(tmp_path, compile_cache, tiny_manifest, shard):
    workdirs = [tmp_path / 'one', tmp_path / 'two']
    arguments = [runs.flags('derm_finetune', workdir, tiny_manifest, *FOUR) for workdir in workdirs]
    runs.run(arguments[0], compile_cache)
    parts = [*arguments[1], f'--config.compute.shard={shard}']
    run_two(parts, compile_cache, before=('', SILENT))
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
    for code, output in finish_two(start_two(arguments, compile_cache)):
        assert code == 2, output
        assert 'error: config: batch_size=18 does not divide over 4 devices' in output
        assert 'Traceback' not in output


@SHARDED
def test_sigterm_to_one_stops_both_and_one_process_goes_on(
    tmp_path, pretrained_alone, compile_cache, tiny_manifest, shard
):
    """Sharded, parameters lie in parts on both, and whole on the one."""
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    parts = [*arguments, f'--config.compute.shard={shard}']
    processes = start_two(parts, compile_cache, before=(SLOW_STEPS, SLOW_STEPS))
    runs.wait_until(lambda: len(runs.steps_written(tmp_path)) >= 2, processes[1])
    processes[1].send_signal(signal.SIGTERM)
    ends = finish_two(processes)
    assert [code for code, _ in ends] == [75, 75], '\n'.join(output for _, output in ends)
    step = runs.checkpoints(tmp_path).latest()
    for _, output in ends:
        assert f'stopped at step {step} of 12' in output
        assert 'Traceback' not in output
    assert f'resuming at step {step}' in runs.run(arguments, compile_cache)
    assert runs.steps_written(tmp_path) == list(range(1, 13))
    assert json.loads((tmp_path / 'result.json').read_text())['trained_on/step'] == 12
