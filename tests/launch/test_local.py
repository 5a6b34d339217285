"""local.sh with processes that only pretend, and once with two that train."""

import os
import signal
import sys

import pytest

from tests import runs

HARD = ['--config.labels.negative=No "Finding"', "--config.note=it's $HOME *", '--config.empty=']


def command(desk, *flags: str, arguments: tuple = ()) -> list[str]:
    workdir = f'--workdir={desk.folder}/run'
    python = f'--python={desk.folder}/bin/fakepython'
    return ['launch/local.sh', python, *flags, '--', '--config=c.py', workdir, *arguments]


def test_one_process(desk):
    one = desk()
    code, output, messages = one.run(command(one, arguments=HARD))
    assert code == 0, messages
    assert output.splitlines() == ['process 0 of run 0', 'process 0 ends']
    (run,) = one.notes('runs0')
    assert run['arguments'][2:] == HARD
    assert not [name for name in run['env'] if name.startswith('JAX')]


def test_two_processes_are_told_of_each_other(desk):
    one = desk(port=4321)
    code, output, messages = one.run(command(one, '--processes=2'))
    assert code == 0, messages
    assert output.splitlines() == ['process 0 of run 0', 'process 0 ends']
    assert (one.folder / 'run/logs/process1.log').read_text().startswith('process 1 of run 0')
    for number in range(2):
        (run,) = one.notes(f'runs{number}')
        assert run['env']['JAX_COORDINATOR_ADDRESS'] == 'localhost:4321'
        assert run['env']['JAX_NUM_PROCESSES'] == '2'
        assert run['env']['JAX_PROCESS_ID'] == str(number)


@pytest.mark.parametrize('codes', [[75, 75], [75, 134]])
def test_stopped_it_goes_on(desk, codes):
    one = desk(codes=[codes, 0])
    code, _, messages = one.run(command(one, '--processes=2'))
    assert code == 0, messages
    assert '(1 of --restarts=20)' in messages


def test_not_without_end(desk):
    one = desk(codes=[134])
    code, _, messages = one.run(command(one, '--restarts=2'))
    assert code == 75
    assert len(one.notes('runs0')) == 3
    assert '--restarts=2 are used up' in messages


@pytest.mark.parametrize(
    ('codes', 'expected', 'times'), [([2, 75], 2, 1), ([134, 3], 3, 1), ([75, 1], 1, 2)]
)
def test_the_code_that_says_most(desk, codes, expected, times):
    one = desk(codes=[codes])
    code, _, messages = one.run(command(one, '--processes=2'))
    assert code == expected, messages
    assert len(one.notes('runs1')) == times


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_all_and_they_save(desk, number):
    one = desk(codes=['wait'])
    run = one.start(command(one, '--processes=2'))
    one.wait_for(lambda: one.notes('runs0') and one.notes('runs1'))
    logs = [one.folder / f'run/logs/process{process}.log' for process in range(2)]
    one.wait_for(lambda: all('run 0' in log.read_text() for log in logs))
    run.send_signal(number)
    code, output, messages = one.finish(run)
    assert code == 75, messages
    assert 'process 0 saved' in output
    assert 'process 1 saved' in logs[1].read_text()
    assert len(one.notes('runs0')) == 1, 'not started again'


def test_what_outlives_another_is_killed(desk):
    one = desk(codes=[['deaf', 2]])
    code, _, messages = one.run(command(one, '--processes=2', '--grace=1'))
    assert code == 2, messages
    assert 'killed' in messages
    assert 'process 1 ended with 2' in messages


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--processes=two'], '--processes=two is not a whole number'),
        (['--proceses=2'], 'unknown flag --proceses (did you mean --processes?)'),
        (['--config=c.py'], '--config is a flag of the run: it comes after --'),
        (['--dry-run=yes'], '--dry-run takes no value'),
        (['--logs'], '--logs needs a value'),
        (['runs/x'], "unexpected argument 'runs/x'"),
        (['--python=/nowhere/python'], '/nowhere/python is not installed'),
    ],
)
def test_wrong_flags(desk, flags, message):
    one = desk()
    code, _, messages = one.run(command(one, *flags))
    assert code == 2
    assert messages.startswith('error: ') and messages.count('\n') == 1
    assert message in messages


@pytest.mark.long
def test_two_that_train(desk, tmp_path, compile_cache, tiny_manifest):
    """As tests/test_hosts.py starts them, but by the launcher."""
    one = desk()
    small = tmp_path / 'python'
    small.write_text(
        f'#!{sys.executable}\nimport sys\nif sys.argv[1] == "-c":\n'
        '    exec(sys.argv[2])\n    sys.exit()\n'
        f'{runs.TWO_BLOCKS}\nfrom big_ssl.main import main\nsys.exit(main(sys.argv[2:]))\n'
    )
    small.chmod(0o755)
    workdir = tmp_path / 'run'
    short = ['--config.total_steps=2', '--config.warmup_steps=1']
    place = '--config.dataset.placement=device'  # TensorFlow need not be loaded twice
    arguments = runs.flags('derm_micle', workdir, tiny_manifest, *short, place)
    code, output, messages = one.run(
        ['launch/local.sh', f'--python={small}', '--processes=2', '--', *arguments],
        JAX_COMPILATION_CACHE_DIR=compile_cache,
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
        JAX_PLATFORMS='cpu',
        XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true',
        PATH=os.environ['PATH'],
    )
    assert code == 0, output + messages
    assert runs.steps_written(workdir) == [1, 2]
    assert (workdir / 'logs/process1.log').exists()
