import errno
import gc
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint._src.serialization import jax_array_handlers

from big_ssl.errors import InputError
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState

ABOUT = {
    'config': {'seed': 3, 'crop': {'area': [0.08, 1.0]}},
    'data': 'f00d',
    'classes': ['ä', 'b'],
}
# orbax's failed reads leave coroutines behind, collected at the end of these tests
IN_PIECES = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def replicated(devices: int) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()[:devices]), ('data',)), PartitionSpec())


def state_of(step: int, devices: int = 1) -> TrainState:
    """Random numbers of every kind that a state holds, drawn from the step."""
    rng = np.random.default_rng(step)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    params = {
        'encoder': {'kernel': normal(3, 3, 8, 16), 'scale': normal(16)},
        'head': normal(16, 5),
    }
    state = TrainState(
        step=np.int32(step),
        params=params,
        batch_stats={'encoder': {'mean': normal(16), 'var': normal(16) ** 2}},
        opt_state=optax.adam(0.1).init(jax.tree.map(jnp.asarray, params)),
    )
    state = state.replace(opt_state=jax.tree.map(lambda x: normal(*x.shape), state.opt_state))
    return jax.device_put(state, replicated(devices))


def target_of(state: TrainState, devices: int) -> TrainState:
    sharding = replicated(devices)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def assert_bitwise_equal(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def saved(folder: epath.Path, steps: dict[int, float | None], keep: int = 100) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep)
    for step, score in steps.items():
        checkpoints.save(state_of(step), ABOUT, score)
    checkpoints.wait()
    return checkpoints


def save(checkpoints: Checkpoints, state: TrainState, score: float | None = None) -> None:
    """To the end."""
    checkpoints.save(state, ABOUT, score)
    checkpoints.wait()


def files_under(folder: epath.Path) -> list[Path]:
    return sorted(path for path in Path(folder).rglob('*') if path.is_file())


@pytest.fixture
def workdir(tmp_path) -> epath.Path:
    return epath.Path(tmp_path)


@pytest.mark.parametrize(('before', 'after'), [(1, 1), (1, 8), (8, 1), (8, 2)])
def test_restored_bitwise_on_any_number_of_devices(workdir, before, after):
    state = state_of(7, before)
    save(Checkpoints(workdir), state)
    restored = Checkpoints(workdir).restore(7, target_of(state, after))
    assert_bitwise_equal(restored, state_of(7))
    for leaf in jax.tree.leaves(restored):
        assert len(leaf.sharding.device_set) == after
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(leaf))


def test_special_numbers_survive(workdir):
    odd = np.array([np.nan, -0.0, np.inf, 1e-45, -np.inf], np.float32)
    state = state_of(1).replace(params=jax.device_put({'w': odd}, replicated(1)))
    save(Checkpoints(workdir), state)
    assert_bitwise_equal(Checkpoints(workdir).restore(1, target_of(state, 1)), state)


def test_newest_and_best_are_kept(workdir):
    scores = {1: 0.2, 2: 0.9, 3: None, 4: 0.5, 5: None, 6: 0.1}
    checkpoints = saved(workdir, scores, keep=2)
    folders = {path.name for path in checkpoints.folder.iterdir()}
    assert folders == {'2', '5', '6'}
    for opened in (checkpoints, Checkpoints(workdir, keep=2), Checkpoints(workdir, read_only=True)):
        assert (opened.latest(), opened.best()) == (6, 2)


def test_a_better_one_replaces_the_best(workdir):
    checkpoints = saved(workdir, {1: 0.5, 2: 0.4}, keep=1)
    checkpoints = Checkpoints(workdir, keep=1)
    for step, score in {3: 0.6, 4: 0.3, 5: 0.1}.items():
        save(checkpoints, state_of(step), score)
    assert checkpoints.best() == 3
    assert {path.name for path in checkpoints.folder.iterdir()} == {'3', '5'}


def test_of_equal_scores_the_later_is_best_and_stays(workdir):
    checkpoints = saved(workdir, {1: 0.5, 2: 0.5, 3: 0.1, 4: 0.2}, keep=1)
    assert checkpoints.best() == 2
    assert_bitwise_equal(checkpoints.restore(2, target_of(state_of(2), 1)), state_of(2))


def test_without_scores_there_is_no_best(workdir):
    checkpoints = saved(workdir, {1: None, 4: None})
    assert (checkpoints.latest(), checkpoints.best()) == (4, None)


def test_an_empty_folder_has_neither(workdir):
    checkpoints = Checkpoints(workdir)
    assert (checkpoints.latest(), checkpoints.best()) == (None, None)


def test_the_same_step_is_not_saved_twice(workdir):
    checkpoints = saved(workdir, {3: 0.5})
    other = state_of(4).replace(step=state_of(3).step)
    checkpoints.save(other, {**ABOUT, 'data': 'other'}, 0.7)
    Checkpoints(workdir).save(other, {**ABOUT, 'data': 'other'}, 0.7)
    assert_bitwise_equal(checkpoints.restore(3, target_of(other, 1)), state_of(3))
    assert checkpoints.about(3)['data'] == 'f00d'


def test_weights_are_the_arrays(workdir):
    saved(workdir, {5: None})
    weights = Checkpoints(workdir, read_only=True).weights(5)
    state = state_of(5)
    assert_bitwise_equal(weights, {'params': state.params, 'batch_stats': state.batch_stats})
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(weights))


def test_about_comes_back(workdir):
    assert saved(workdir, {5: None}).about(5) == ABOUT
    assert Checkpoints(workdir, read_only=True).about(5) == ABOUT


@IN_PIECES
def test_every_flipped_byte_is_noticed(workdir):
    """Or it changes nothing: some files hold what no restore reads."""
    saved(workdir, {5: 0.5})
    folder, target = workdir / 'checkpoints' / '5', target_of(state_of(5), 1)
    caught = {}
    for file in files_under(folder):
        content = file.read_bytes()
        for position in {len(content) // 2, max(len(content) - 9, 0)} if content else ():
            flipped = bytearray(content)
            flipped[position] ^= 0x55
            file.write_bytes(bytes(flipped))
            try:
                checkpoints = Checkpoints(workdir)
                assert_bitwise_equal(checkpoints.restore(5, target), state_of(5))
                assert checkpoints.about(5) == ABOUT
            except InputError as error:
                assert str(folder.parent) in str(error)
                assert '\n' not in str(error)
                caught[str(file.relative_to(folder)), position] = str(error)
        file.write_bytes(content)
    data = [name for name, _ in caught if '/d/' in name]
    assert len(data) >= 2
    assert any('is not what was saved' in message for message in caught.values())
    assert_bitwise_equal(Checkpoints(workdir).restore(5, target), state_of(5))
    gc.collect()


@IN_PIECES
def test_a_truncated_file_is_noticed(workdir):
    saved(workdir, {5: None})
    folder, target = workdir / 'checkpoints' / '5', target_of(state_of(5), 1)
    noticed = 0
    for file in files_under(folder):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
        for read in (lambda c: c.restore(5, target), lambda c: c.weights(5)):
            try:
                read(Checkpoints(workdir))
            except InputError as error:
                assert str(folder) in str(error)
                noticed += 1
        file.write_bytes(content)
    assert noticed >= 4
    gc.collect()


def test_a_changed_array_is_named(workdir):
    """Bytes swapped for those of another checkpoint: every file is intact in itself."""
    saved(workdir, {5: None, 6: None})
    folder = workdir / 'checkpoints'
    shutil.rmtree(folder / '5' / 'state')
    shutil.copytree(folder / '6' / 'state', folder / '5' / 'state')
    checkpoints = Checkpoints(workdir)
    with pytest.raises(InputError, match=r'5: .*is not what was saved \(\d+ of 13 arrays\)'):
        checkpoints.restore(5, target_of(state_of(5), 1))
    with pytest.raises(InputError, match='is not what was saved'):
        checkpoints.weights(5)


def test_another_shape_does_not_fit(workdir):
    saved(workdir, {5: None})
    target = target_of(state_of(5).replace(params={'other': jnp.zeros(3)}), 1)
    with pytest.raises(InputError, match=r'checkpoints/5: cannot be restored'):
        Checkpoints(workdir).restore(5, target)


def test_an_unfinished_save_is_not_a_checkpoint(workdir):
    saved(workdir, {5: 0.5})
    folder = workdir / 'checkpoints'
    shutil.copytree(folder / '5', folder / '6.orbax-checkpoint-tmp')
    shutil.rmtree(folder / '6.orbax-checkpoint-tmp' / 'about')
    assert Checkpoints(workdir, read_only=True).latest() == 5
    checkpoints = Checkpoints(workdir)
    assert (checkpoints.latest(), checkpoints.best()) == (5, 5)
    save(checkpoints, state_of(6))
    assert_bitwise_equal(checkpoints.restore(6, target_of(state_of(6), 1)), state_of(6))


@pytest.mark.parametrize('part', ['metrics', 'state', 'about', '_CHECKPOINT_METADATA'])
def test_a_half_deleted_old_checkpoint_is_no_hindrance(workdir, part):
    """A kill while an old checkpoint is being removed leaves parts of it."""
    saved(workdir, {5: 0.5, 6: 0.6})
    path = workdir / 'checkpoints' / '5' / part
    path.rmtree() if path.is_dir() else path.unlink()
    checkpoints = Checkpoints(workdir, keep=1)
    assert (checkpoints.latest(), checkpoints.best()) == (6, 6)
    save(checkpoints, state_of(7), 0.1)
    assert {path.name for path in checkpoints.folder.iterdir()} == {'6', '7'}


def test_a_folder_without_checkpoints_is_an_input_error(workdir):
    with pytest.raises(InputError, match='no checkpoints there'):
        Checkpoints(workdir, read_only=True)
    with pytest.raises(InputError, match='no checkpoints there'):
        Checkpoints(workdir / 'nowhere', read_only=True)
    assert not (workdir / 'nowhere').exists()


def test_a_relative_workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(epath.Path('runs/a'), {5: None})
    assert Checkpoints(epath.Path('runs/a'), read_only=True).latest() == 5
    assert (tmp_path / 'runs' / 'a' / 'checkpoints' / '5').exists()


def flip(folder):
    """A byte of the largest file of a checkpoint."""
    file = max(files_under(folder), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def test_the_newest_good_one_is_found_and_damaged_ones_put_aside(workdir, caplog):
    saved(workdir, dict.fromkeys((3, 5, 6, 7)), keep=9)
    target = target_of(state_of(5), 1)
    for step in (6, 7):
        flip(workdir / 'checkpoints' / str(step))
    checkpoints = Checkpoints(workdir, keep=9)
    step, state = checkpoints.newest(lambda step: checkpoints.restore(step, target))
    assert step == 5 == checkpoints.latest()
    assert_bitwise_equal(state, state_of(5))
    assert {path.name for path in (workdir / 'damaged').iterdir()} == {'6', '7'}
    for damaged in ('6', '7'):
        assert f'checkpoints/{damaged}: ' in caplog.text
    save(checkpoints, state_of(6))
    flip(workdir / 'checkpoints' / '6')
    again = Checkpoints(workdir, keep=9)
    assert again.newest(lambda step: again.restore(step, target))[0] == 5
    assert {path.name for path in (workdir / 'damaged').iterdir()} == {'6', '7'}


def test_where_none_is_good_nothing_is_touched(workdir):
    saved(workdir, {5: None, 6: None}, keep=9)
    for step in (5, 6):
        flip(workdir / 'checkpoints' / str(step))
    before = files_under(workdir)
    checkpoints = Checkpoints(workdir)
    with pytest.raises(InputError, match='checkpoints/6: '):
        checkpoints.newest(lambda step: checkpoints.restore(step, target_of(state_of(5), 1)))
    assert files_under(workdir) == before
    assert Checkpoints(workdir / 'new').newest(None) is None


@pytest.fixture
def writing(monkeypatch):
    """Arrays are written once this event is set."""
    gate, write = threading.Event(), jax_array_handlers._async_serialize_replica_slices

    async def later(*args, **kwargs):
        assert gate.wait(60)
        return await write(*args, **kwargs)

    monkeypatch.setattr(jax_array_handlers, '_async_serialize_replica_slices', later)
    yield gate
    gate.set()


@pytest.mark.parametrize('cut', [False, True], ids=['whole', 'in parts'])
@pytest.mark.parametrize('devices', [1, 8])
def test_steps_that_use_the_memory_again_change_nothing_that_is_written(
    workdir, writing, devices, cut
):
    """All of them are done before the first array is written."""
    sharding = replicated(devices)
    if cut:
        sharding = NamedSharding(sharding.mesh, PartitionSpec('data'))
    numbers = np.random.default_rng(0).normal(size=(8, 256, 128)).astype(np.float32)
    params = {'w': jax.device_put(numbers, sharding), 'scale': jax.device_put(numbers[0, 0])}
    state = state_of(5, devices).replace(params=params)
    step = jax.jit(lambda s: jax.tree.map(lambda x: 2 * x + 1, s), donate_argnums=0)
    state = step(state)
    expected = jax.tree.map(lambda x: np.asarray(x + 0), state)  # no hold on the state's memory
    checkpoints = Checkpoints(workdir)
    checkpoints.save(state, ABOUT)
    for number in range(5):
        before, state = state, step(state)
        assert before.params['w'].is_deleted() or not number  # which is held
    jax.block_until_ready(state)
    writing.set()
    assert_bitwise_equal(checkpoints.restore(11, target_of(expected, 1)), expected)


def test_until_it_is_complete_the_one_before_is_the_newest(workdir, writing):
    """A copy of the folder is what a kill leaves."""
    writing.set()
    checkpoints = saved(workdir, {5: 0.5}, keep=1)
    writing.clear()
    checkpoints.save(state_of(6), ABOUT, 0.6)
    shutil.copytree(workdir, killed := workdir.parent / 'killed')
    writing.set()
    assert (checkpoints.latest(), checkpoints.best()) == (6, 6)
    assert {path.name for path in checkpoints.folder.iterdir()} == {'6'}
    found = Checkpoints(epath.Path(killed), keep=1)
    assert (found.latest(), found.best()) == (5, 5)
    assert_bitwise_equal(found.restore(5, target_of(state_of(5), 1)), state_of(5))
    save(found, state_of(6), 0.6)
    assert found.latest() == 6


@pytest.mark.parametrize(
    'then',
    [
        Checkpoints.wait,
        Checkpoints.latest,
        Checkpoints.best,
        lambda checkpoints: checkpoints.about(5),
        lambda checkpoints: checkpoints.save(state_of(7), ABOUT),
    ],
)
def test_a_failure_in_the_thread_is_told_by_whatever_comes_next(workdir, monkeypatch, then):
    checkpoints = saved(workdir, {5: 0.5})

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(jax_array_handlers, '_async_serialize_replica_slices', full)
    monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)
    checkpoints.save(state_of(6), ABOUT)
    with pytest.raises(InputError, match=r'checkpoints/6: cannot be saved: .*No space left'):
        then(checkpoints)
    monkeypatch.undo()
    assert Checkpoints(workdir).latest() == 5


KILLED = """
import sys, time, zlib
from etils import epath
from big_ssl.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import ABOUT, state_of
checkpoints = Checkpoints(epath.Path(sys.argv[1]), keep=1)
for step in range(int(sys.argv[2]), 10**6):
    checkpoints.save(state_of(step), ABOUT)
    print(step, flush=True)
"""


def test_killed_while_it_writes(workdir):
    """At any moment behind a save, whose checkpoint is complete or not there; the one before is."""
    draws, started = random.Random(3), 1
    for _ in range(3):
        command = [sys.executable, '-c', KILLED, str(workdir), str(started)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in range(draws.randint(2, 5)):
            begun = int(process.stdout.readline())
        time.sleep(draws.uniform(0, 0.05))
        process.kill()
        begun = max([begun, *map(int, process.communicate()[0].split())])
        checkpoints = Checkpoints(workdir, keep=1)
        latest = checkpoints.latest()
        assert latest in (begun - 1, begun, begun + 1)
        assert_bitwise_equal(
            checkpoints.restore(latest, target_of(state_of(5), 1)), state_of(latest)
        )
        started = latest + 1
