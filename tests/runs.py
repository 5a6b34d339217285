"""Starting `big_ssl.main` on tiny images, and reading what it leaves."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from etils import epath

from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.writers import read_metrics
from tests import helpers

ROOT = Path(__file__).parent.parent
TIMES = ('images_per_second', 'step_seconds', 'input_wait_seconds')
PATIENCE = 300  # seconds, for a machine that does other things too
SLOW_STEPS = """
import time
from big_ssl.train import compilation
ahead = compilation.ahead
def slow(*args):
    step = ahead(*args)
    return lambda *batch: (time.sleep(0.5), step(*batch))[1]
compilation.ahead = slow
"""
# As conftest.py; not for programs that are compared on other numbers of devices, by close bounds.
QUICK_COMPILE = '--xla_backend_optimization_level=1'
TWO_BLOCKS = 'from big_ssl.models import resnet; resnet.STAGE_SIZES[18] = (1, 1)'


def tiny_images(folder: Path) -> str:
    """The manifest of 40 cases, every second one with two images; class b is darker."""
    rows = []
    for case in range(40):
        label = 'ab'[case // 5 % 2]
        for view in range(1 + case % 2):
            name = f'case{case}_{view}.png'
            pixels = helpers.smooth(24, 24, seed=100 * case + view)
            helpers.save(folder / name, pixels if label == 'a' else pixels // 2)
            split = ('train', 'train', 'train', 'val', 'test')[case % 5]
            rows.append((name, f'case{case}', f'patient{case // 5 * 5 + case % 5}', label, split))
    return helpers.write_table(folder / 'table.csv', rows)


def flags(config: str, workdir: Path, manifest: str, *more: str) -> list[str]:
    """Of the smallest useful run: twelve steps of sixteen."""
    settings = {
        'dataset.manifest': manifest,
        'image_size': 16,
        'model.width': 0.25,
        'batch_size': 16,
        'total_steps': 12,
        'warmup_steps': 2,
        'monitor_every_steps': 6,
        'checkpoint_every_steps': 3,
        'log_every_steps': 1,
    }
    chosen = [f'--config.{key}={value}' for key, value in settings.items()]
    return [f'--config=configs/{config}.py:demo', f'--workdir={workdir}', *chosen, *more]


def start(
    arguments: list[str], cache: str, *, before: str = '', **environment: str
) -> subprocess.Popen:
    """`python -m big_ssl.main` of a ResNet of two blocks on one device, after the code `before`."""
    command = 'import sys; from big_ssl.main import main; sys.exit(main(sys.argv))'
    program = '\n'.join([before, TWO_BLOCKS, command])
    variables = {
        'JAX_COMPILATION_CACHE_DIR': cache,
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': '',
        'PYTHONPATH': str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, '-c', program, *arguments],
        cwd=ROOT,
        env=os.environ | variables | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_job(
    arguments: list[str],
    cache: str,
    processes: int = 2,
    *,
    before: Sequence[str] = (),
    **environment: str,
) -> list[subprocess.Popen]:
    """Processes of one job, four devices in all; `before` is code for each of them."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    return [
        start(
            arguments,
            cache,
            before=before[index] if before else '',
            XLA_FLAGS=f'--xla_force_host_platform_device_count={4 // processes}',
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(processes),
            JAX_PROCESS_ID=str(index),
            **environment,
        )
        for index in range(processes)
    ]


def finish_job(job: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and output of each process."""
    return [finish(process) for process in job]


def run_job(arguments: list[str], cache: str, processes: int = 2, **options) -> list[str]:
    """The output of each process; all must end well."""
    ends = finish_job(start_job(arguments, cache, processes, **options))
    assert [code for code, _ in ends] == [0] * processes, '\n'.join(output for _, output in ends)
    return [output for _, output in ends]


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Exit code and output."""
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output


def run(arguments: list[str], cache: str, expected: int = 0, **options: str) -> str:
    """The output of a run that must end with this exit code."""
    code, output = finish(start(arguments, cache, **options))
    assert code == expected, f'exit code {code}:\n{output}'
    return output


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Returns when the condition holds or the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, 'waited in vain'
        time.sleep(0.01)


def interrupt(
    arguments: list[str],
    cache: str,
    when: Callable[[], bool],
    number: int = signal.SIGTERM,
    **options: str,
) -> tuple[int, str]:
    """Exit code and output of a run that gets a signal when the condition holds."""
    process = start(arguments, cache, **options)
    wait_until(when, process)
    process.send_signal(number)
    return finish(process)


def steps_written(workdir: Path) -> list[int]:
    return [line['step'] for line in read_metrics(epath.Path(workdir)) if line['split'] == 'train']


def metrics(workdir: Path) -> list[dict]:
    """The lines of `metrics.jsonl` without the time that steps took; each must be whole."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for line in lines:
        assert (line['split'] == 'train') == all(name in line for name in TIMES), line
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def checkpoints(workdir: Path) -> Checkpoints:
    return Checkpoints(epath.Path(workdir), read_only=True)


def assert_equal_weights(one: Path, other: Path) -> None:
    """Newest checkpoints of two runs, bit by bit."""
    steps = [checkpoints(workdir).latest() for workdir in (one, other)]
    assert steps[0] == steps[1] is not None
    a, b = (checkpoints(workdir).weights(steps[0]) for workdir in (one, other))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)):
        assert x.tobytes() == y.tobytes(), path


def assert_same_run(workdir: Path, straight: Path) -> None:
    """Bit by bit: weights, metrics, each step once, results."""
    assert_equal_weights(workdir, straight)
    assert metrics(workdir) == metrics(straight)
    assert result(workdir) == result(straight)
    once = [(line['step'], line['split']) for line in metrics(workdir)]
    assert len(once) == len(set(once))


def result(workdir: Path) -> dict:
    return json.loads((workdir / 'result.json').read_text())


def files(workdir: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every file."""
    return {
        str(path.relative_to(workdir)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in workdir.rglob('*')
        if path.is_file()
    }


def close(a: float, b: float, relative: float) -> bool:
    return bool(np.isclose(a, b, rtol=relative, atol=relative))
