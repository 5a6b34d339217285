"""gke/run.sh: the manifest that it fills, and how it follows a JobSet of a fake kubectl."""

import math
import signal

import pytest
import yaml

from big_ssl.planning import topology

RUN = 'launch/gke/run.sh'
ARGUMENTS = ['--config=configs/derm_simclr.py', '--workdir=gs://bucket/run']
HARD = [
    '--config.labels.negative=No "Finding"',
    "--config.note=it's $(HOME) $$ `id` \\ {{name}} &\ttab",
    '--config.crop.area=(0.08,1.0)',
    '--config.empty=',
]
WAITS = ['', [['derm-worker-0-0-abcde', 'Pending', 'ContainerCreating', '']]]
RUNS = [
    '',
    [['derm-worker-0-0-abcde', 'Running', '', ''], ['derm-worker-0-1-x', 'Running', '', '']],
]
# Fields of jobset.x-k8s.io/v1alpha2, batch/v1 and v1 that the manifest may have, by where they are.
FIELDS = {
    '': {'apiVersion', 'kind', 'metadata', 'spec'},
    'metadata': {'name', 'namespace', 'annotations'},
    'spec': {'failurePolicy', 'network', 'replicatedJobs'},
    'spec.failurePolicy': {'maxRestarts', 'rules'},
    'spec.failurePolicy.rules': {'action', 'onJobFailureReasons'},
    'spec.network': {'enableDNSHostnames', 'subdomain'},
    'spec.replicatedJobs': {'name', 'replicas', 'template'},
    'job': {
        'parallelism', 'completions', 'completionMode', 'backoffLimit', 'podFailurePolicy',
        'template',
    },
    'pod': {
        'restartPolicy', 'terminationGracePeriodSeconds', 'nodeSelector', 'serviceAccountName',
        'containers', 'volumes',
    },
    'container': {
        'name', 'image', 'args', 'env', 'ports', 'securityContext', 'resources', 'volumeMounts',
    },
}  # fmt: skip


def ended(condition: str, *codes: int) -> list:
    pods = [[f'derm-worker-0-{n}-x', 'Failed', '', code] for n, code in enumerate(codes)]
    return [condition, pods]


def command(*flags: str, arguments: list[str] = ARGUMENTS) -> list[str]:
    fast = ['--poll=0.1', '--timeout=60']
    base = [RUN, '--name=derm', '--accelerator=v5e-16', '--image=IMAGE', *fast, *flags]
    return [*base, '--', *arguments]


def manifest(desk, *flags: str, arguments: list[str] = ARGUMENTS) -> dict:
    one = desk()
    one.remove('kubectl')
    base = [RUN, '--dry-run', '--name=derm', '--image=eu-docker.pkg.dev/p/r/big_ssl:1', *flags]
    code, output, messages = one.run([*base, '--', *arguments])
    assert code == 0, messages
    return yaml.safe_load(output)


def parts(jobset: dict) -> tuple[dict, dict, dict]:
    """Job, pod, container."""
    job = jobset['spec']['replicatedJobs'][0]['template']['spec']
    pod = job['template']['spec']
    return job, pod, pod['containers'][0]


def as_kubernetes_reads(text: str) -> str:
    """Where no variable is named."""
    return text.replace('$$', '$')


def test_a_tpu_slice(desk):
    jobset = manifest(
        desk, '--accelerator=v5e-16', '--restarts=7', '--spot', arguments=ARGUMENTS + HARD
    )
    job, pod, container = parts(jobset)
    assert jobset['spec']['failurePolicy']['maxRestarts'] == 7
    assert job['parallelism'] == job['completions'] == 4
    assert pod['nodeSelector'] == {
        'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
        'cloud.google.com/gke-tpu-topology': '4x4',
        'cloud.google.com/gke-spot': 'true',
    }
    assert container['resources'] == dict.fromkeys(('requests', 'limits'), {'google.com/tpu': 4})
    assert [as_kubernetes_reads(arg) for arg in container['args']] == [*ARGUMENTS, *HARD]
    assert container['env'] == []
    topology_key = 'alpha.jobset.sigs.k8s.io/exclusive-topology'
    assert jobset['metadata']['annotations'][topology_key] == 'cloud.google.com/gke-nodepool'


def test_nodes_with_gpus_are_told_how_to_join(desk):
    flags = ['--accelerator=h100x8', '--nodes=3', '--env=A=b "$c"', '--service-account=writer']
    jobset = manifest(desk, *flags, '--grace=2m')
    job, pod, container = parts(jobset)
    assert job['parallelism'] == job['completions'] == 3
    assert pod['nodeSelector'] == {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'}
    assert pod['serviceAccountName'] == 'writer'
    assert pod['terminationGracePeriodSeconds'] == 120
    assert container['resources']['limits'] == {'nvidia.com/gpu': 8}
    env = {entry.pop('name'): entry for entry in container['env']}
    assert as_kubernetes_reads(env['A']['value']) == 'b "$c"'
    name, group = jobset['metadata']['name'], jobset['spec']['replicatedJobs'][0]['name']
    host = f'{name}-{group}-0-0.{jobset["spec"]["network"]["subdomain"]}'
    assert env['JAX_COORDINATOR_ADDRESS']['value'] == f'{host}:8476'
    assert env['JAX_NUM_PROCESSES']['value'] == '3'
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env['JAX_PROCESS_ID']['valueFrom']['fieldRef']['fieldPath'] == index


@pytest.mark.parametrize('accelerator', ['v5e-16', 'h100x8'])
def test_no_field_is_invented_and_2_and_3_are_final(desk, accelerator):
    jobset = manifest(desk, f'--accelerator={accelerator}')
    job, pod, container = parts(jobset)
    spec = jobset['spec']
    assert jobset['apiVersion'] == 'jobset.x-k8s.io/v1alpha2' and jobset['kind'] == 'JobSet'
    for where, part in {
        '': jobset,
        'metadata': jobset['metadata'],
        'spec': spec,
        'spec.failurePolicy': spec['failurePolicy'],
        'spec.failurePolicy.rules': spec['failurePolicy']['rules'][0],
        'spec.network': spec['network'],
        'spec.replicatedJobs': spec['replicatedJobs'][0],
        'job': job,
        'pod': pod,
        'container': container,
    }.items():
        assert part.keys() <= FIELDS[where], where
    assert pod['restartPolicy'] == 'Never' and job['backoffLimit'] == 0
    assert job['podFailurePolicy'] == {
        'rules': [
            {
                'action': 'FailJob',
                'onExitCodes': {
                    'containerName': container['name'],
                    'operator': 'In',
                    'values': [2, 3],
                },
            }
        ]
    }
    rule = {'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}
    assert spec['failurePolicy']['rules'] == [rule]


SLICES = {
    'v4-8': ('tpu-v4-podslice', 1, 4),
    'v4-64': ('tpu-v4-podslice', 8, 4),
    'v5p-128': ('tpu-v5p-slice', 16, 4),
    'v5p-4096': ('tpu-v5p-slice', 512, 4),
    'v5p:4x4x12': ('tpu-v5p-slice', 48, 4),
    'v5e-1': ('tpu-v5-lite-podslice', 1, 1),
    'v5e-8': ('tpu-v5-lite-podslice', 1, 8),
    'v6e-4': ('tpu-v6e-slice', 1, 4),
    'v6e-256': ('tpu-v6e-slice', 64, 4),
}


@pytest.mark.parametrize('name', SLICES)
def test_slices_are_those_of_fit(desk, name):
    label, hosts, devices = SLICES[name]
    job, pod, container = parts(manifest(desk, f'--accelerator={name}'))
    sides = pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')
    assert tuple(map(int, sides)) == topology.parse(name)[1]
    assert math.prod(map(int, sides)) == hosts * devices
    assert pod['nodeSelector']['cloud.google.com/gke-tpu-accelerator'] == label
    assert job['completions'] == hosts
    assert container['resources']['limits'] == {'google.com/tpu': devices}


def test_runs_to_the_end_and_deletes(desk):
    one = desk(
        get_jobset=['ok', 'unreachable', 'ok'], ticks=[WAITS, RUNS, ended('Completed', 0, 0)]
    )
    code, output, messages = one.run(command())
    assert code == 0, messages
    assert output.splitlines() == ['log of derm-worker-0-0-abcde', 'log of derm-worker-0-0-x']
    assert 'process 0 waits: ContainerCreating' in messages
    assert one.state['created'] == 1 and one.state['manifest'] == ''
    assert one.calls('delete', 'jobset', 'derm')


@pytest.mark.parametrize(
    ('codes', 'expected'), [((2, 75), 2), ((75, 3), 3), ((75, 134), 75), ((134, 1), 1), ((), 1)]
)
def test_the_code_is_that_of_the_processes(desk, codes, expected):
    one = desk(ticks=[['', [['derm-worker-0-0-a', 'Running', '', '']]], ended('Failed', *codes)])
    code, _, messages = one.run(command())
    assert code == expected, messages
    assert one.state['manifest'] == ''


def test_attaches_and_refuses_another_command(desk):
    one = desk(ticks=[RUNS])
    watcher = one.start(command('--keep'))
    one.wait_for(lambda: one.calls('logs'))
    watcher.send_signal(signal.SIGINT)
    code, _, messages = one.finish(watcher)
    assert code == 130
    assert 'stays; to go on: the same command; to delete it: kubectl' in messages
    code, _, messages = one.run(command(arguments=[*ARGUMENTS, '--config.seed=1']))
    assert code == 2
    assert 'is there with another command' in messages
    one.plan(ticks=[RUNS, RUNS, ended('Completed', 0, 0)])
    code, _, messages = one.run(command('--keep'))
    assert code == 0, messages
    assert 'attached to the JobSet derm' in messages
    code, _, messages = one.run(command())
    assert code == 0
    assert 'done already' in messages
    assert one.state['created'] == 1 and one.state['manifest'] == ''


def test_a_failed_one_is_created_anew(desk):
    one = desk(ticks=[ended('Failed', 2)])
    assert one.run(command('--keep'))[0] == 2
    one.plan(ticks=[ended('Failed', 2)] * 2 + [ended('Completed', 0)])
    code, _, messages = one.run(command())
    assert one.state['created'] == 2, messages


def test_without_nodes_it_gives_up_and_deletes(desk):
    one = desk(ticks=[['', [['derm-worker-0-0-a', 'Pending', '', '']]]])
    code, _, messages = one.run(command('--wait=1'))
    assert code == 75
    assert 'error: no nodes for v5e-16 within --wait=1' in messages
    assert one.state['manifest'] == ''


def test_a_deletion_that_fails_is_said(desk):
    one = desk(ticks=[ended('Completed', 0)], delete=['forbidden'])
    code, _, messages = one.run(command())
    assert code == 1
    by_hand = 'delete it by hand: kubectl --namespace=default delete jobset derm'
    assert messages.splitlines()[-1].endswith(by_hand)


def test_a_call_that_hangs_is_ended(desk):
    one = desk(create=['hang'], ticks=[RUNS])
    code, _, messages = one.run(command('--timeout=2', '--tries=1'))
    assert code == 1
    assert 'error: no answer within 2 seconds from: kubectl --namespace=default create' in messages


@pytest.mark.parametrize(
    ('fate', 'message'), [('forbidden', 'Forbidden'), ('no_jobset', 'the cluster has no JobSet')]
)
def test_what_does_not_pass_is_said_at_once(desk, fate, message):
    one = desk(get_jobset=[fate])
    code, _, messages = one.run(command())
    assert code == 2
    assert messages.count('\n') == 1 and message in messages
    assert len(one.calls('get')) == 1


@pytest.mark.parametrize(
    ('flag', 'message'),
    [
        ('--accelerator=v3-8', 'others by launch/tpu_vm.sh'),
        ('--accelerator=v5e-17', 'is no slice'),
        ('--accelerator=v4-9', 'is no slice'),
        ('--accelerator=h100', 'for example v5e-16 or h100x8'),
        ('--accelerator=b7x8', 'no GPU of GKE'),
        ('--nodes=3', 'a slice v5e-16 has 4'),
        ('--name=Derm', '--name=Derm: at most'),
        ('--imge=x', 'did you mean --image?'),
    ],
)
def test_wrong_flags(desk, flag, message):
    one = desk()
    code, _, messages = one.run(command(flag))
    assert code == 2
    assert messages.startswith('error: ') and messages.count('\n') == 1
    assert message in messages
    assert one.notes('calls') == []


def test_no_kubectl(desk):
    one = desk()
    one.remove('kubectl')
    code, _, messages = one.run(command())
    assert code == 2
    assert messages.startswith('error: kubectl is not installed') and messages.count('\n') == 1
