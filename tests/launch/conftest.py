"""Launchers among fakes: nothing but these and ordinary tools is on their PATH."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch import fake_programs

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120  # seconds, for a machine that does other things too
TOOLS = [
    *(
        'awk',
        'bash',
        'cat',
        'chmod',
        'cksum',
        'cp',
        'cut',
        'date',
        'dirname',
        'env',
        'find',
        'flock',
    ),
    *('grep', 'gzip', 'head', 'mkdir', 'mktemp', 'mv', 'nohup', 'rm', 'sed', 'seq', 'setsid'),
    *('sleep', 'sort', 'tail', 'tar', 'timeout', 'tr', 'wc', 'xargs'),
]
FAKES = {
    'bin': {'gcloud': 'gcloud', 'kubectl': 'kubectl', 'sbatch': 'sbatch', 'srun': 'srun'}
    | {'scontrol': 'scontrol', 'fakepython': 'local_python'},
    'worker_bin': {'python3.12': 'python', 'sudo': 'sudo', 'docker': 'docker'},
}


class Desk:
    """Where a launcher is started; `plan` says how the fakes behave (see fake_programs)."""

    def __init__(self, folder: Path, tools: Path, plan: dict):
        self.folder, self.tools = folder, tools
        folder.mkdir()
        self.plan(**plan)
        for place, programs in FAKES.items():
            (folder / place).mkdir()
            for name, function in programs.items():
                stub = (
                    f'#!{sys.executable} -IS\nimport sys\n'
                    f'sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport fake_programs\n'
                    f'fake_programs.main({function!r}, {str(folder)!r})\n'
                )
                (folder / place / name).write_text(stub)
                (folder / place / name).chmod(0o755)

    def plan(self, **plan: object) -> None:
        (self.folder / 'plan.json').write_text(json.dumps(plan))

    def remove(self, program: str) -> None:
        (self.folder / 'bin' / program).unlink()

    def start(self, command: list[str], **environment: str) -> subprocess.Popen:
        path = {'PATH': f'{self.folder}/bin:{self.tools}', 'TOOLS': str(self.tools)}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={'HOME': str(self.folder), 'TMPDIR': str(self.folder)} | path | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heed_interrupts,
        )

    def finish(self, process: subprocess.Popen) -> tuple[int, str, str]:
        """Exit code, output and messages."""
        try:
            output, messages = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        return process.returncode, output, messages

    def run(self, command: list[str], **environment: str) -> tuple[int, str, str]:
        return self.finish(self.start(command, **environment))

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            time.sleep(0.02)

    def notes(self, file: str) -> list:
        path = self.folder / f'{file}.jsonl'
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def calls(self, *words: str) -> list[list[str]]:
        """Of fakes, that have these words."""
        return [call for call in self.notes('calls') if set(words) <= set(call)]

    @property
    def state(self) -> dict:
        return fake_programs.Fake(str(self.folder)).state


def _heed_interrupts() -> None:
    """Of tests in the background a shell makes their programs deaf to it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope='session')
def tools(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('tools')
    for name in TOOLS:
        (folder / name).symlink_to(shutil.which(name) or f'/missing/{name}')
    return folder


@pytest.fixture
def desk(tmp_path, tools):
    made: list[Desk] = []

    def make(**plan: object) -> Desk:
        made.append(Desk(tmp_path / f'desk{len(made)}', tools, plan))
        return made[-1]

    yield make
    for one in made:
        fake_programs.wipe_workers(one.folder)
