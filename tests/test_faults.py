"""What goes wrong around a run: full and read-only disks, damaged files, processes that vanish."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import bucket, runs

AGAIN = 'run the same command again to go on'
QUICK_LEASE = 'from big_ssl import lease; lease.RENEW, lease.LAPSE, lease.SETTLE = 0.5, 4.0, 0.5\n'
CHAOS_ROUNDS = 20
# Arrays of a checkpoint of step {step} are written once a minute has passed.
SLOW_WRITES = """
import asyncio
from orbax.checkpoint._src.serialization import jax_array_handlers as handlers
write = handlers._async_serialize_replica_slices
async def slowly(values, infos, *args, **kwargs):
    await infos[0].await_path_creation()
    if '/{step}.' in str(infos[0].parent_dir):
        await asyncio.sleep(60)
    return await write(values, infos, *args, **kwargs)
handlers._async_serialize_replica_slices = slowly
"""


@contextlib.contextmanager
def own_disk(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at `folder`; skips where this process may not mount."""
    folder.mkdir(exist_ok=True)
    mount = ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip('mounting a file system is not allowed here')
    try:
        yield
    finally:
        subprocess.run(['umount', str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(['mount', '-o', f'remount,{options}', str(folder)], check=True)


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1]


@pytest.mark.long
def test_a_full_disk(straight, tmp_path, compile_cache, tiny_manifest):
    """One line, the checkpoint before is kept, and with room the run ends the same."""
    workdir = tmp_path / 'run'
    arguments = runs.flags('derm_micle', workdir, tiny_manifest)
    with own_disk(workdir, 'size=700k'):
        output = runs.run(arguments, compile_cache, expected=2)
        assert last_line(output).startswith(f'error: {workdir}/')
        assert 'No space left on device; earlier checkpoints are kept' in last_line(output)
        assert 'Traceback' not in output
        assert runs.checkpoints(workdir).latest() == 3
        remount(workdir, 'size=100m')
        assert 'resuming at step 3' in runs.run(arguments, compile_cache)
        runs.assert_same_run(workdir, straight('derm_micle'))


@pytest.mark.chaos
def test_a_disk_that_became_read_only(straight, tmp_path, compile_cache, tiny_manifest):
    workdir = tmp_path / 'run'
    arguments = runs.flags('derm_micle', workdir, tiny_manifest)
    with own_disk(workdir, 'size=100m'):
        code, _ = runs.interrupt(
            arguments, compile_cache, lambda: 5 in runs.steps_written(workdir), signal.SIGKILL
        )
        assert code == -signal.SIGKILL
        remount(workdir, 'ro')
        before = runs.files(workdir)
        output = runs.run(arguments, compile_cache, expected=2)
        assert last_line(output).startswith(f'error: {workdir}')
        assert 'Read-only file system' in last_line(output) and 'Traceback' not in output
        assert runs.files(workdir) == before
        remount(workdir, 'rw')
        runs.run(arguments, compile_cache)
        runs.assert_same_run(workdir, straight('derm_micle'))


@pytest.mark.chaos
def test_an_image_that_is_damaged_while_it_trains(straight, tmp_path, compile_cache):
    """The row and the file are named; mended, the run goes on and ends the same."""
    images = tmp_path / 'images'
    table = runs.tiny_images(images)
    workdir = tmp_path / 'run'
    arguments = runs.flags('derm_micle', workdir, table, '--config.total_steps=400')
    process = runs.start(arguments, compile_cache, before=runs.SLOW_STEPS)
    runs.wait_until(lambda: len(runs.steps_written(workdir)) >= 2, process)
    whole = {path: path.read_bytes() for path in images.glob('case1*.png')}
    for path, content in whole.items():
        path.write_bytes(content[: len(content) // 2])
    code, output = runs.finish(process)
    assert code == 2, output
    assert last_line(output).startswith(f'error: {table} row ')
    assert 'case1' in last_line(output) and 'truncated' in last_line(output)
    assert 'Traceback' not in output
    assert runs.checkpoints(workdir).latest() is not None
    for path, content in whole.items():
        path.write_bytes(content)
    seen = len(runs.steps_written(workdir))
    process = runs.start(arguments, compile_cache)
    runs.wait_until(lambda: len(runs.steps_written(workdir)) > seen + 5, process)
    process.kill()
    assert 'resuming at step' in runs.finish(process)[1]


@pytest.mark.parametrize(
    ('count', 'victim', 'how'),
    [
        pytest.param(2, 1, signal.SIGKILL, marks=pytest.mark.long),
        pytest.param(4, 3, signal.SIGKILL, marks=pytest.mark.chaos),
        pytest.param(4, 0, signal.SIGKILL, marks=pytest.mark.chaos),  # the one that the others ask
        pytest.param(4, 1, signal.SIGSTOP, marks=pytest.mark.chaos),  # a machine that is cut off
        pytest.param(4, 0, signal.SIGSTOP, marks=pytest.mark.chaos),
    ],
)
def test_when_one_of_several_vanishes_the_others_end(
    straight, tmp_path, compile_cache, tiny_manifest, count, victim, how
):
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    job = runs.start_job(arguments, compile_cache, count, before=[runs.SLOW_STEPS] * count)
    runs.wait_until(lambda: len(runs.steps_written(tmp_path)) >= 5, job[0])
    job[victim].send_signal(how)
    for number, process in enumerate(job):
        if number != victim:
            code, output = runs.finish(process)
            assert code == 75, output
            ends = f'process {number} of {count} ends: another process of the job has gone; {AGAIN}'
            assert ends in output.splitlines()  # JAX's threads may speak after it
    job[victim].kill()
    runs.finish(job[victim])
    assert 'resuming at step 3' in runs.run_job(arguments, compile_cache, count)[0]
    ours, theirs = (
        [line['loss'] for line in runs.metrics(folder) if 'loss' in line]
        for folder in (tmp_path, straight('derm_micle'))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_what_only_one_process_finds_wrong_ends_all(tmp_path, compile_cache, tiny_manifest):
    """It says so and exits with 2; the others, which wait for it, with 75."""
    broken = """
from big_ssl.data import datasets
from big_ssl.errors import InputError
def refuse(*_):
    raise InputError('table.csv row 7: this host cannot read it')
datasets.open_images = refuse
"""
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    ends = runs.finish_job(runs.start_job(arguments, compile_cache, before=['', broken]))
    assert [code for code, _ in ends] == [75, 2], '\n'.join(output for _, output in ends)
    assert last_line(ends[1][1]) == 'error: table.csv row 7: this host cannot read it'


@pytest.mark.long
def test_in_a_bucket_killed_it_goes_on(straight, tmp_path, compile_cache, tiny_manifest):
    """By tensorstore's and orbax's own ways to Google Cloud Storage, which is a folder here."""
    root = tmp_path / 'gs'
    workdir = root / 'bucket/run'
    arguments = runs.flags('derm_micle', 'gs://bucket/run', tiny_manifest)
    before = QUICK_LEASE + bucket.IN_A_PROGRAM.format(root=str(root))
    root.joinpath('bucket').mkdir(parents=True)
    with bucket.served(root) as environment:
        process = runs.start(
            arguments, compile_cache, before=before + runs.SLOW_STEPS, **environment
        )
        checkpoints = workdir / 'checkpoints'
        runs.wait_until(lambda: (checkpoints / '6/commit_success.txt').exists(), process)
        process.kill()
        assert runs.finish(process)[0] == -signal.SIGKILL
        assert (workdir / 'in_use').exists()
        output = runs.run(arguments, compile_cache, before=before, **environment)
        assert 'waiting for a sign of life' in output and 'resuming at step 6' in output
        assert not (workdir / 'in_use').exists()
    undisturbed = straight('derm_micle')
    assert runs.metrics(workdir) == runs.metrics(undisturbed)
    assert runs.result(workdir) == runs.result(undisturbed)
    names = {path.name.split('.')[0] for path in workdir.iterdir()}
    assert names == {path.name.split('.')[0] for path in undisturbed.iterdir()}


@pytest.mark.long
def test_pretrained_finetuned_and_judged_in_a_bucket(
    straight, tmp_path, compile_cache, tiny_manifest
):
    """Each stage starts from the bucket's own workdir of the last; figures as with folders."""
    root, chain = tmp_path / 'gs', {'derm_micle': '', 'derm_finetune': 'derm_micle'}
    before = QUICK_LEASE + bucket.IN_A_PROGRAM.format(root=str(root))
    root.joinpath('bucket').mkdir(parents=True)
    with bucket.served(root) as environment:
        for config, start in chain.items():
            more = [f'--config.init_from=gs://bucket/{start}'] if start else []
            arguments = runs.flags(config, f'gs://bucket/{config}', tiny_manifest, *more)
            output = runs.run(arguments, compile_cache, before=before, **environment)
        assert 'weights from gs://bucket/derm_micle/checkpoints, step 12' in output
        judged = ['--config.task=evaluate', '--config.init_from=gs://bucket/derm_finetune']
        arguments = runs.flags('derm_finetune', 'gs://bucket/judged', tiny_manifest, *judged)
        runs.run(arguments, compile_cache, before=before, **environment)
    pretrained = straight('derm_micle')
    finetuned = straight('derm_finetune', f'--config.init_from={pretrained}')
    found, expected = root / 'bucket/derm_finetune', runs.result(finetuned)
    assert expected.pop('trained_on/init_from') == str(pretrained)
    assert runs.result(found) == expected | {'trained_on/init_from': 'gs://bucket/derm_micle'}
    assert runs.metrics(found) == runs.metrics(finetuned)
    assert (found / 'predictions.csv').read_bytes() == (finetuned / 'predictions.csv').read_bytes()
    again = runs.result(root / 'bucket/judged')
    assert {key: again[key] for key in again if key.startswith('test/')} == {
        key: expected[key] for key in expected if key.startswith('test/')
    }


@pytest.mark.chaos
def test_whatever_happens_it_ends_with_the_same_bits(
    straight, tmp_path, compile_cache, tiny_manifest
):
    """Twenty times killed or told to stop: at the start, between steps, and while saving."""
    often = ('--config.total_steps=150', '--config.checkpoint_every_steps=1',
             '--config.monitor_every_steps=10')  # fmt: skip
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest, *often)
    draws, ends = random.Random(5), []
    while len(ends) < CHAOS_ROUNDS:
        process = runs.start(arguments, compile_cache, before=runs.SLOW_STEPS)
        when = draws.choice(('start', 'steps', 'save'))
        _wait_for(when, draws, tmp_path, process)
        number = draws.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        process.send_signal(number)
        code, output = runs.finish(process)
        allowed = (-number, 75) if number == signal.SIGTERM else (-number,)  # 75 once it listens
        assert code in allowed, f'{when}, {number}: {output}'
        ends.append((when, code))
    assert {when for when, _ in ends} == {'start', 'steps', 'save'}
    assert {code for _, code in ends} >= {75, -signal.SIGKILL}
    runs.run(arguments, compile_cache)
    runs.assert_same_run(tmp_path, straight('derm_micle', *often))


@pytest.mark.chaos
def test_killed_while_a_thread_saves_it_loses_that_checkpoint_alone(
    straight, tmp_path, compile_cache, tiny_manifest
):
    """Steps go on while arrays are written; the one before is whole, and the end the same."""
    arguments = runs.flags('derm_micle', tmp_path, tiny_manifest)
    folder = tmp_path / 'checkpoints'

    def two_steps_into(step: int) -> bool:
        written = runs.steps_written(tmp_path)
        return bool(_listing(folder)) and step + 2 in written

    for step, before in ((6, 3), (9, 6)):
        code, output = runs.interrupt(
            arguments,
            compile_cache,
            lambda step=step: two_steps_into(step),
            signal.SIGKILL,
            before=runs.SLOW_STEPS + SLOW_WRITES.format(step=step),
        )
        assert code == -signal.SIGKILL, output
        assert runs.checkpoints(tmp_path).latest() == before
    assert 'resuming at step 6' in runs.run(arguments, compile_cache)
    runs.assert_same_run(tmp_path, straight('derm_micle'))


def _wait_for(when: str, draws: random.Random, workdir: Path, process: subprocess.Popen) -> None:
    if when == 'start':
        time.sleep(draws.uniform(0, 10))
        return
    folder, steps = workdir / 'checkpoints', draws.randint(1, 4)
    before = len(runs.steps_written(workdir)) if (workdir / 'metrics.jsonl').exists() else 0
    # what a killed run wrote after its checkpoint is dropped first: only growth counts
    known = set(folder.glob('*tmp*'))

    def happened() -> bool:
        if when == 'save':
            return bool(set(_listing(folder)) - known)
        return len(runs.steps_written(workdir)) >= before + steps

    runs.wait_until(happened, process)
    time.sleep(draws.uniform(0, 0.1))


def _listing(folder: Path) -> list[Path]:
    """Folders of checkpoints that are being written."""
    with contextlib.suppress(FileNotFoundError):
        return [folder / name for name in os.listdir(folder) if 'tmp' in name]  # noqa: PTH208
    return []
