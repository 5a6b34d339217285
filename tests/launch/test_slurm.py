"""slurm.sbatch under a fake sbatch, which runs a copy of it, again when it is queued again."""

import pytest

from tests.launch.conftest import ROOT

ARGUMENTS = ['--config=configs/derm_simclr.py', '--workdir=/shared/run']
HARD = ['--config.labels.negative=No "Finding"', "--config.note=it's $HOME *", '--config.empty=']
PYTHON = '--python=python of mine'


def command(*flags: str, arguments: list[str] = ARGUMENTS) -> list[str]:
    return ['sbatch', '--nodes=2', 'launch/slurm.sbatch', PYTHON, *flags, '--', *arguments]


def test_done(desk):
    one = desk(tasks=[[0, 0]])
    code, output, messages = one.run(command(arguments=ARGUMENTS + HARD))
    assert code == 0, messages
    assert '0: step 1' in output
    (run,) = one.notes('srun')
    program = ['--label', 'python of mine', '-m', 'big_ssl.main']
    assert run['argv'] == [*program, *ARGUMENTS, *HARD]
    assert run['env']['JAX_LOCAL_DEVICE_IDS'] == '0,1,2,3', 'one task a node sees all its GPUs'
    assert one.calls('scontrol') == []


def test_one_task_a_gpu_is_left_to_jax(desk):
    one = desk(tasks=[[0]])
    code, _, messages = one.run(command(), SLURM_NTASKS='8')
    assert code == 0, messages
    assert 'JAX_LOCAL_DEVICE_IDS' not in one.notes('srun')[0]['env']


@pytest.mark.parametrize('tasks', [[75, 75], [134, 75], [137, 0]])
def test_stopped_it_is_queued_again(desk, tasks):
    one = desk(tasks=[tasks, tasks, [0, 0]])
    code, _, messages = one.run(command())
    assert code == 0, messages
    assert one.calls('scontrol') == [['scontrol', 'requeue', '7']] * 2
    assert '(2 of --restarts=20)' in messages


def test_not_without_end(desk):
    one = desk(tasks=[[75]])
    code, _, messages = one.run(command('--restarts=2'))
    assert code == 75
    assert len(one.notes('srun')) == 3
    assert '--restarts=2 are used up' in messages


@pytest.mark.parametrize(
    ('tasks', 'code', 'runs'), [([2, 75], 2, 1), ([75, 3], 3, 1), ([1, 75], 1, 2)]
)
def test_others_are_not(desk, tasks, code, runs):
    """Among tasks that only stopped, the one that says why is found."""
    one = desk(tasks=[tasks])
    found, _, messages = one.run(command())
    assert found == code, messages
    assert len(one.notes('srun')) == runs
    assert one.calls('scontrol') == []


@pytest.mark.parametrize('how', ['scancel', 'scancel --full'])
def test_scancel_ends_it(desk, how):
    one = desk(tasks=[how])
    code, output, messages = one.run(command())
    assert code == 75, messages
    assert '0: saved' in output, 'what follows the signal is printed too'
    assert one.calls('scontrol') == []


def test_options_for_slurm():
    text = (ROOT / 'launch/slurm.sbatch').read_text()
    options = {line[8:].strip() for line in text.splitlines() if line.startswith('#SBATCH ')}
    assert {'--requeue', '--open-mode=append', '--signal=TERM@300'} <= options
    assert text.index('#SBATCH --output') < text.index('set -euo pipefail'), 'Slurm stops there'


def test_not_from_the_repository(desk):
    one = desk()
    script = ['bash', 'launch/slurm.sbatch', '--', *ARGUMENTS]
    code, _, messages = one.run(script, SLURM_SUBMIT_DIR='/')
    assert code == 2
    assert (
        messages == 'error: / is not the repository; call sbatch in its folder, or with --chdir\n'
    )


def test_without_slurm(desk):
    one = desk()
    code, _, messages = one.run(['bash', 'launch/slurm.sbatch', '--', *ARGUMENTS])
    assert code == 2
    assert messages.count('\n') == 1 and 'sbatch launch/slurm.sbatch' in messages
