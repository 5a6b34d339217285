"""Stands in for gcloud, kubectl, Slurm and a worker's Python; acts by a plan, notes its calls.

A stub on the PATH calls `main`, hundreds of times: large modules are imported where they are used.
`plan.json` is what the test wants, `state.json` what has happened.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

WORKERS = 2
COMPLAINTS = {
    'flaky': 'ERROR: (gcloud) HTTPError 503: the service is currently unavailable.',
    'denied': 'ERROR: (gcloud) PERMISSION_DENIED: no such project, or you may not use it.',
    'quota': "ERROR: (gcloud) Quota limit 'TPUV5sPreemptible' has been exceeded.",
    'unreachable': 'error: dial tcp: i/o timeout',
    'forbidden': 'Error from server (Forbidden): you may not',
    'no_jobset': 'error: the server doesn\'t have a resource type "jobset"',
}
# Of `gcloud compute tpus … --help`.
COMMON = {'zone', 'project', 'quiet'}
GCLOUD_FLAGS = {
    'create': {'node-id', 'accelerator-type', 'runtime-version', 'spot', 'async', 'reserved'},
    'describe': {'format'},
    'delete': {'force', 'async'},
    'ssh': {'worker', 'command', 'internal-ip'},
    'scp': {'worker', 'internal-ip'},
}


class Fake:
    """The folder that the fakes and the test share."""

    def __init__(self, folder: str):
        self.folder = Path(folder)
        self.plan = json.loads((self.folder / 'plan.json').read_text())

    def note(self, file: str, entry: object) -> int:
        """Returns how many there were before."""
        path = self.folder / f'{file}.jsonl'
        before = path.read_text().count('\n') if path.exists() else 0
        with path.open('a') as out:
            out.write(json.dumps(entry) + '\n')
        return before

    @property
    def state(self) -> dict:
        path = self.folder / 'state.json'
        return json.loads(path.read_text()) if path.exists() else {}

    def update(self, **values: object) -> None:
        (self.folder / 'state.new').write_text(json.dumps(self.state | values))
        (self.folder / 'state.new').rename(self.folder / 'state.json')

    def fate(self, verb: str) -> None:
        """Ends or delays this call, if the plan has something for it; the last entry repeats."""
        number = self.note(f'fate_{verb}', '')
        fates = self.plan.get(verb, ['ok'])
        fate = fates[min(number, len(fates) - 1)]
        if fate == 'hang':
            time.sleep(600)
        if fate != 'ok':
            complain(COMPLAINTS[fate])


def complain(text: str, code: int = 1) -> None:
    print(text, file=sys.stderr)
    sys.exit(code)


def split(argv: list[str]) -> tuple[list[str], dict[str, str]]:
    words = [arg for arg in argv if not arg.startswith('--')]
    pairs = [arg[2:].partition('=') for arg in argv if arg.startswith('--')]
    return words, {name: value for name, _, value in pairs}


# --- a slice of two workers


def gcloud(fake: Fake, argv: list[str]) -> int:
    fake.note('calls', ['gcloud', *argv])
    (_, _, _, verb, *rest), flags = split(argv)
    if unknown := flags.keys() - GCLOUD_FLAGS[verb] - COMMON:
        complain(f'ERROR: unrecognized arguments: {unknown}', 2)
    fake.fate(verb)
    return globals()[f'slice_{verb}'](fake, rest, flags)


def slice_create(fake: Fake, rest: list[str], flags: dict) -> int:
    if fake.state.get('slice', 'ABSENT') != 'ABSENT':
        complain(f'ERROR: ALREADY_EXISTS: {rest[0]}')
    number = fake.state.get('created', 0) + 1
    capacity = fake.plan.get('capacity', 2)
    fake.update(slice='WAITING_FOR_RESOURCES', created=number, left=capacity, logs=0)
    return 0


def slice_describe(fake: Fake, rest: list[str], flags: dict) -> int:
    state = fake.state.get('slice', 'ABSENT')
    if state == 'WAITING_FOR_RESOURCES':
        left = fake.state['left'] - 1
        fake.update(left=left, slice=state if left else 'ACTIVE')
    if state == 'DELETING':
        fake.update(slice='ABSENT')
    if state == 'ABSENT':
        complain(f"ERROR: NOT_FOUND: Resource 'queuedResources/{rest[0]}' was not found")
    print(state)
    return 0


def slice_delete(fake: Fake, rest: list[str], flags: dict) -> int:
    if fake.state.get('slice', 'ABSENT') == 'ABSENT':
        complain(f"ERROR: NOT_FOUND: Resource 'queuedResources/{rest[0]}' was not found")
    wipe_workers(fake.folder)
    fake.update(slice='DELETING')
    return 0


def wipe_workers(folder: Path) -> None:
    import shutil

    for home in folder.glob('worker?'):
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((home / '.big_ssl/group').read_text()), signal.SIGKILL)
        shutil.rmtree(home, ignore_errors=True)


def workers(fake: Fake, chosen: str) -> list[int]:
    if fake.state.get('slice') != 'ACTIVE':
        complain('ERROR: NOT_FOUND: the node is not there', 1)
    return list(range(WORKERS)) if chosen == 'all' else [int(chosen)]


def slice_scp(fake: Fake, rest: list[str], flags: dict) -> int:
    import shutil

    for worker in workers(fake, flags['worker']):
        home = fake.folder / f'worker{worker}'
        home.mkdir(exist_ok=True)
        for source in rest[:-1]:
            shutil.copy(source, home)
    return 0


def slice_ssh(fake: Fake, rest: list[str], flags: dict) -> int:
    import subprocess

    chosen = workers(fake, flags['worker'])
    command = flags['command']
    if ' log ' in command:
        fake.update(logs=fake.state['logs'] + 1)
        if [fake.state['created'], fake.state['logs']] in fake.plan.get('preempt', []):
            wipe_workers(fake.folder)
            fake.update(slice='SUSPENDED')
            complain('ERROR: the connection was closed', 255)
    code = 0
    for worker in chosen:
        home = fake.folder / f'worker{worker}'
        path = f'{fake.folder}/worker_bin:{os.environ["TOOLS"]}'
        environment = {'HOME': str(home), 'PATH': path, 'WORKER': str(worker)}
        shell = ['bash', '-c', command]
        code = subprocess.run(shell, cwd=home, env=environment).returncode or code
    return code


def python(fake: Fake, argv: list[str]) -> int:
    """Of a worker: makes environments and trains."""
    if argv[0] == '-c':
        return 0
    module, *rest = argv[1:]
    if module == 'venv':
        import shutil

        (Path(rest[0]) / 'bin').mkdir(parents=True)
        shutil.copy(sys.argv[0], Path(rest[0]) / 'bin/python')
        return 0
    if module == 'pip':
        fake.note('pip', rest)
        if fake.plan.get('pip') == 'fails':
            complain('ERROR: No matching distribution found for jax')
        return 0
    return train(fake, int(os.environ['WORKER']), rest)


def docker(fake: Fake, argv: list[str]) -> int:
    """As root or not; `run` trains."""
    fake.note('docker', argv)
    if argv[0] != 'run':
        return 0
    image = argv.index('IMAGE')
    for pair in (arg[6:] for arg in argv[:image] if arg.startswith('--env=')):
        name, _, os.environ[name] = pair.partition('=')
    return train(fake, int(os.environ['WORKER']), argv[image + 1 :])


def sudo(fake: Fake, argv: list[str]) -> int:
    import subprocess

    return subprocess.run(argv).returncode


def train(fake: Fake, process: int, arguments: list[str]) -> int:
    """The code by `plan['codes']`: a number for each run, or one for each process in it."""
    number = fake.note(f'runs{process}', {'arguments': arguments, 'env': dict(os.environ)})
    codes = fake.plan.get('codes', [0])
    code = codes[min(number, len(codes) - 1)]
    if isinstance(code, list):
        code = code[process]
    signal.signal(signal.SIGTERM, lambda *_: stop(process))
    print(f'process {process} of run {number}', flush=True)
    if code == 'wait':
        deadline = time.monotonic() + 120
        while not (fake.folder / 'go').exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        code = 0
    if code == 'deaf':
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(120)
    print(f'process {process} ends', flush=True)
    if code == 134:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.abort()
    return code


def stop(process: int) -> None:
    print(f'process {process} saved', flush=True)
    os._exit(75)


def local_python(fake: Fake, argv: list[str]) -> int:
    """Of local.sh: finds a port, trains."""
    if argv[0] == '-c':
        print(fake.plan.get('port', 12345))
        return 0
    return train(fake, int(os.environ.get('JAX_PROCESS_ID', 0)), argv[2:])


# --- a cluster with JobSet: the plan's ticks, one a look at the pods


def kubectl(fake: Fake, argv: list[str]) -> int:
    fake.note('calls', ['kubectl', *argv])
    words, flags = split(argv)
    verb, what = words[0], words[1] if len(words) > 1 else ''
    fake.fate(f'{verb}_{what}' if verb == 'get' else verb)
    ticks = fake.plan.get('ticks', [])
    at = min(fake.state.get('tick', 0), len(ticks) - 1)
    if verb == 'create':
        fake.update(manifest=sys.stdin.read(), created=fake.state.get('created', 0) + 1)
    elif verb == 'delete':
        fake.update(manifest='')
    elif verb == 'logs':
        print(f'log of {words[1]}')
    elif not fake.state.get('manifest'):
        complain(f'Error from server (NotFound): jobsets.jobset.x-k8s.io "{words[2]}" not found')
    elif what == 'jobset':
        print(f'{mark_of(fake.state["manifest"])}|{ticks[at][0]}', end='')
    else:
        print('\n'.join('|'.join(map(str, pod)) for pod in ticks[at][1]))
        fake.update(tick=at + 1)
    return 0


def mark_of(manifest: str) -> str:
    return manifest.split('"big-ssl/command": "')[1].split('"')[0]


# --- Slurm


def sbatch(fake: Fake, argv: list[str]) -> int:
    """Runs a job here and now, from a copy as Slurm does, again as often as it is queued again."""
    import shutil
    import subprocess

    place = next(i for i, arg in enumerate(argv) if arg.endswith('.sbatch'))
    spool = fake.folder / 'spool/slurm_script'
    spool.parent.mkdir(exist_ok=True)
    shutil.copy(argv[place], spool)
    for restart in range(10):
        environment = os.environ | {
            'SLURM_JOB_ID': '7',
            'SLURM_SUBMIT_DIR': os.getcwd(),  # noqa: PTH109
            'SLURM_RESTART_COUNT': str(restart),
            'SLURM_GPUS_ON_NODE': '4',
            'SLURM_JOB_NUM_NODES': '2',
        }
        requeued = fake.state.get('requeued', 0)
        command = ['bash', str(spool), *argv[place + 1 :]]
        environment.setdefault('SLURM_NTASKS', '2')
        code = subprocess.run(command, env=environment, start_new_session=True).returncode
        if fake.state.get('requeued', 0) == requeued:
            return code
    return code


def srun(fake: Fake, argv: list[str]) -> int:
    variables = {name: value for name, value in os.environ.items() if name.startswith('JAX')}
    number = fake.note('srun', {'argv': argv, 'env': variables})
    tasks = fake.plan['tasks'][min(number, len(fake.plan['tasks']) - 1)]
    print('0: step 1')
    if tasks in ('scancel', 'scancel --full'):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (os.kill if tasks == 'scancel' else os.killpg)(os.getpgrp(), signal.SIGTERM)
        print('0: saved', flush=True)
        tasks = [75]
    for task, code in enumerate(tasks):
        if code:
            print(f'srun: error: node{task}: task {task}: Exited with exit code {code}', flush=True)
    return max(tasks)


def scontrol(fake: Fake, argv: list[str]) -> int:
    fake.note('calls', ['scontrol', *argv])
    fake.update(requeued=fake.state.get('requeued', 0) + 1)
    return 0


def main(program: str, folder: str) -> None:
    sys.exit(globals()[program](Fake(folder), sys.argv[1:]))
