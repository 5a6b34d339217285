"""tpu_vm.sh on a slice of two workers that a fake gcloud makes of folders."""

import signal

import pytest

WORKDIR = '--workdir=gs://bucket/run'
ARGUMENTS = ['--config=configs/derm_simclr.py', WORKDIR]
HARD = [
    '--config.labels.negative=No "Finding"',
    "--config.note=it's $HOME `id` \\ * {a,b} #x",
    '--config.crop.area=(0.08,1.0)',
    '--config.empty=',
]
PLACE = ['--name=derm', '--zone=us-west4-a', '--project=p']
FAST = ['--poll=0.2', '--timeout=60', '--grace=30']


def command(*flags: str, arguments: list[str] = ARGUMENTS) -> list[str]:
    return ['launch/tpu_vm.sh', *PLACE, '--type=v5e-16', *FAST, *flags, '--', *arguments]


def deleted(desk) -> bool:
    return desk.state.get('slice', 'ABSENT') == 'ABSENT'


def trained(desk) -> list[int]:
    """How often each worker ran."""
    return [len(desk.notes(f'runs{worker}')) for worker in range(2)]


def test_makes_installs_runs_shows_and_deletes(desk):
    one = desk(create=['flaky', 'ok'], scp=['flaky', 'ok'], ssh=['ok', 'flaky', 'ok'])
    code, output, messages = one.run(command('--spot', arguments=[*ARGUMENTS, *HARD]))
    assert code == 0, messages
    assert output.splitlines() == ['process 0 of run 0', 'process 0 ends']
    create = one.calls('create')[-1]
    assert {'--accelerator-type=v5litepod-16', '--runtime-version=v2-alpha-tpuv5-lite'} < {*create}
    assert {'--node-id=derm', '--spot', '--zone=us-west4-a', '--project=p'} < {*create}
    assert one.notes('pip') == [['install', '--quiet', '--editable', '.[tpu]']] * 2
    assert trained(one) == [1, 1]
    for worker in range(2):
        assert one.notes(f'runs{worker}')[0]['arguments'] == [*ARGUMENTS, *HARD]
    assert deleted(one)
    assert 'slice derm is deleted' in messages


def test_by_docker_with_variables(desk):
    one = desk()
    code, _, messages = one.run(command('--image=IMAGE', '--env=A=b c', arguments=ARGUMENTS + HARD))
    assert code == 0, messages
    assert ['pull', '--quiet', 'IMAGE'] in one.notes('docker')
    assert one.notes('pip') == []
    for worker in range(2):
        run = one.notes(f'runs{worker}')[0]
        assert run['arguments'] == [*ARGUMENTS, *HARD]
        assert run['env']['A'] == 'b c'


def test_after_preemption_all_is_made_again(desk):
    one = desk(codes=['wait', 0], preempt=[[1, 2]])
    code, output, messages = one.run(command())
    assert code == 0, messages
    assert one.state['created'] == 2
    assert trained(one) == [2, 2]
    assert 'process 0 of run 1' in output
    assert 'lost: SUSPENDED' in messages
    assert deleted(one)


def test_preempted_too_often(desk):
    one = desk(codes=['wait'], preempt=[[1, 1], [2, 1], [3, 1]])
    code, _, messages = one.run(command('--restarts=1'))
    assert code == 75
    assert one.state['created'] == 2
    assert '--restarts=1 are used up' in messages
    assert deleted(one)


@pytest.mark.parametrize('codes', [[75, 134], [134, 75]])
def test_stopped_after_saving_runs_again_on_the_same_slice(desk, codes):
    one = desk(codes=[codes, 0])
    code, _, messages = one.run(command())
    assert code == 0, messages
    assert one.state['created'] == 1
    assert trained(one) == [2, 2]


@pytest.mark.parametrize('worst', [2, 3])
def test_wrong_and_diverged_are_not_tried_again(desk, worst):
    one = desk(codes=[[75, worst]])
    code, _, messages = one.run(command())
    assert code == worst, messages
    assert trained(one) == [1, 1]
    assert 'not tried again' in messages
    assert deleted(one)


def test_a_crash_is_tried_once_more(desk):
    one = desk(codes=[[134, 1]])
    code, _, messages = one.run(command())
    assert code == 1, messages
    assert trained(one) == [2, 2]
    assert deleted(one)


def test_an_install_that_fails_gives_up(desk):
    one = desk(pip='fails')
    code, _, messages = one.run(command('--crashes=0', '--tries=1'))
    assert code == 1
    assert 'error: slice derm: ERROR: No matching distribution found for jax' in messages
    assert trained(one) == [0, 0]
    assert deleted(one)


def test_without_capacity_the_request_is_deleted(desk):
    one = desk(capacity=-1)
    code, _, messages = one.run(command('--wait=1'))
    assert code == 75
    assert 'error: no capacity for v5litepod-16 in us-west4-a within --wait=1;' in messages
    assert one.calls('delete')
    assert deleted(one)


def test_a_deletion_that_fails_is_said(desk):
    one = desk(delete=['denied'])
    code, _, messages = one.run(command())
    assert code == 1
    by_hand = (
        'gcloud compute tpus queued-resources delete derm --force --zone=us-west4-a --project=p'
    )
    assert messages.splitlines()[-1].endswith(f'delete it by hand: {by_hand}')


def test_a_call_that_hangs_is_ended(desk):
    one = desk(describe=['hang', 'ok'])
    code, _, messages = one.run(command('--timeout=2'))
    assert code == 0, messages
    one = desk(describe=['hang'])
    code, _, messages = one.run(command('--timeout=1', '--tries=1', '--wait=1', '--delete-wait=1'))
    assert code == 75
    assert 'delete it by hand' in messages
    assert (
        'no answer within 1 seconds from: gcloud compute tpus queued-resources describe' in messages
    )


def test_a_worker_that_no_longer_answers(desk):
    """Its slice is replaced, as often as after a crash."""
    one = desk(codes=['wait'], ssh=['ok', 'ok', 'ok', 'ok', 'flaky'])
    code, _, messages = one.run(command('--tries=1', '--unreachable=1', '--crashes=1'))
    assert code == 1
    assert 'worker 0 does not answer' in messages
    assert one.state['created'] == 2
    assert deleted(one)


def test_a_kept_slice_is_used_again_and_a_run_that_is_done_is_known(desk):
    one = desk()
    code, _, messages = one.run(command('--keep'))
    assert code == 0, messages
    assert 'is kept and costs money; to delete it: launch/tpu_vm.sh delete --name=derm' in messages
    assert one.state['slice'] == 'ACTIVE'
    code, _, messages = one.run(command('--keep'))
    assert code == 0
    assert 'was done already' in messages
    assert trained(one) == [1, 1]
    code, _, messages = one.run(command(arguments=[*ARGUMENTS, '--config.seed=1']))
    assert code == 0, messages
    assert trained(one) == [2, 2]
    assert len(one.notes('pip')) == 2, 'installed once a worker'
    assert one.state['created'] == 1
    assert deleted(one)


def test_watching_can_stop_and_go_on(desk):
    one = desk(codes=['wait'])
    watcher = one.start(command())
    one.wait_for(lambda: trained(one) == [1, 1] and one.state['logs'])
    watcher.send_signal(signal.SIGINT)
    code, _, messages = one.finish(watcher)
    assert code == 130
    assert 'stays and may cost money' in messages
    assert 'launch/tpu_vm.sh delete --name=derm' in messages
    assert not deleted(one)

    code, _, messages = one.run(command(arguments=[*ARGUMENTS, '--config.seed=1']))
    assert code == 2
    assert 'error: slice derm runs another command' in messages
    assert not deleted(one)

    watcher = one.start(command())
    one.wait_for(lambda: one.state['logs'] > 2)
    (one.folder / 'go').touch()
    code, output, messages = one.finish(watcher)
    assert code == 0, messages
    assert 'attached to the run at work' in messages
    assert 'process 0 of run 0' in output
    assert trained(one) == [1, 1]
    assert deleted(one)


def test_killed_between_two_steps_it_finds_what_is_there(desk):
    one = desk(capacity=3)
    code, *_ = one.run(['launch/tpu_vm.sh', 'create', *PLACE, '--type=v5e-16', *FAST])
    assert code == 0
    assert one.state['slice'] == 'ACTIVE'
    code, _, messages = one.run(['launch/tpu_vm.sh', 'install', *PLACE, *FAST])
    assert code == 0, messages
    code, _, messages = one.run(command())
    assert code == 0, messages
    assert one.state['created'] == 1
    assert len(one.notes('pip')) == 2


def test_a_slice_that_was_lost_meanwhile_is_made_again(desk):
    one = desk()
    (one.folder / 'state.json').write_text('{"slice": "SUSPENDED", "created": 1, "logs": 0}')
    code, _, messages = one.run(command())
    assert code == 0, messages
    assert one.state['created'] == 2


def test_stop_and_delete(desk):
    one = desk(codes=['wait'])
    watcher = one.start(command())
    one.wait_for(lambda: trained(one) == [1, 1] and one.state['logs'])
    watcher.kill()
    code, output, messages = one.run(['launch/tpu_vm.sh', 'stop', *PLACE, *FAST])
    assert code == 0, messages
    assert output.splitlines() == ['big_ssl ended 75'] * 2
    code, _, messages = one.run(['launch/tpu_vm.sh', 'delete', *PLACE, *FAST])
    assert code == 0, messages
    assert deleted(one)
    code, _, messages = one.run(['launch/tpu_vm.sh', 'delete', *PLACE, *FAST])
    assert code == 0, messages


@pytest.mark.parametrize(
    ('fates', 'message'),
    [
        ({'describe': ['denied']}, 'error: ERROR: (gcloud) PERMISSION_DENIED: no such project'),
        ({'create': ['quota']}, "error: ERROR: (gcloud) Quota limit 'TPUV5sPreemptible'"),
    ],
)
def test_what_does_not_pass_is_not_tried_again(desk, fates, message):
    one = desk(**fates)
    code, _, messages = one.run(command())
    assert code == 2
    assert message in messages
    assert len(one.calls(*fates)) <= 2


@pytest.mark.parametrize(
    ('type_', 'gcloud', 'runtime'),
    [
        ('v5e-16', 'v5litepod-16', 'v2-alpha-tpuv5-lite'),
        ('v5litepod-256', 'v5litepod-256', 'v2-alpha-tpuv5-lite'),
        ('v2-8', 'v2-8', 'tpu-ubuntu2204-base'),
        ('v3-32', 'v3-32', 'tpu-ubuntu2204-base'),
        ('v4-64', 'v4-64', 'tpu-ubuntu2204-base'),
        ('v5p-128', 'v5p-128', 'v2-alpha-tpuv5'),
        ('v6e-8', 'v6e-8', 'v2-alpha-tpuv6e'),
    ],
)
def test_types(desk, type_, gcloud, runtime):
    one = desk()
    one.remove('gcloud')
    arguments = ['launch/tpu_vm.sh', '--name=a', '--zone=z', f'--type={type_}', '--dry-run']
    code, output, _ = one.run([*arguments, '--', *ARGUMENTS])
    assert code == 0
    assert f'--accelerator-type={gcloud} --runtime-version={runtime} ' in output.splitlines()[0]


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], '--name is missing'),
        (['--name=a', '--zone=z'], '--type is missing'),
        ([*PLACE, '--type=h100x8', '--', *ARGUMENTS], '--type=h100x8 is no slice'),
        ([*PLACE, '--type=v5e-16', '--', '--config=a'], "the run's flags come after --"),
        ([*PLACE, '--type=v5e-16', '--', '--config=a', '--workdir=runs/x'], 'give a bucket'),
        ([*PLACE, '--type=v5e-16', '--wait=soon', '--', *ARGUMENTS], '--wait=soon is not a time'),
    ],
)
def test_wrong_flags(desk, flags, message):
    one = desk()
    code, _, messages = one.run(['launch/tpu_vm.sh', *flags])
    assert code == 2
    assert messages.startswith('error: ') and messages.count('\n') == 1
    assert message in messages
    assert one.notes('calls') == []


def test_no_gcloud(desk):
    one = desk()
    one.remove('gcloud')
    code, _, messages = one.run(command())
    assert code == 2
    assert messages.startswith('error: gcloud is not installed') and messages.count('\n') == 1
