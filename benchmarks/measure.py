"""One part of the benchmark in a process of its own, so that its memory's peak is its own.

  python -m benchmarks.measure PART SETTING.json RESULT.json

`benchmarks.gpu` starts it. Exit code 4: the batch does not fit.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.exhausted import does_not_fit
from benchmarks.settings import NETWORKS, Setting, config_of

PARTS = ('ceilings', 'network', 'rival', 'step', 'trace', 'images')
DOES_NOT_FIT = 4
_OF_CARD = ('name', 'driver_version', 'memory.total', 'clocks.sm', 'clocks.max.sm', 'clocks.mem',
            'power.draw', 'power.limit', 'temperature.gpu')  # fmt: skip
Figures = dict[str, Any]


def rival(setting: Setting) -> Figures:
    """PyTorch: network, loss and optimiser on ready views."""
    from benchmarks import torch_simclr

    if graphics_card() and not torch_simclr.sees_a_gpu():
        raise RuntimeError('there is a GPU, which this PyTorch does not see')
    network, config = NETWORKS[setting.network], config_of(setting)
    return torch_simclr.measured(
        depth=network.depth,
        width=network.width,
        stem=network.stem,
        image_size=network.image_size,
        batch=setting.batch,
        temperature=config.method.temperature,
        rate=config.optimizer.learning_rate * setting.batch / 256,
        compiler=setting.compiler,
        seconds=setting.seconds,
        repeats=setting.repeats,
    )


def graphics_card() -> Figures:
    """What nvidia-smi says of the first card, its clocks at this moment; nothing without it."""
    command = ['nvidia-smi', f'--query-gpu={",".join(_OF_CARD)}', '--format=csv,noheader,nounits']
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = text.stdout.splitlines()
    return dict(zip(_OF_CARD, map(str.strip, lines[0].split(',')))) if lines else {}


def measured(part: str, setting: Setting) -> Figures:
    """One of PARTS, by PyTorch without JAX or by JAX without PyTorch."""
    if part == 'rival':
        return rival(setting)
    from benchmarks import parts

    parts.keep_programs()
    return getattr(parts, part)(setting)


def main(part: str, setting_file: str, result_file: str) -> int:
    values = json.loads(Path(setting_file).read_text())
    setting = Setting(**values | {'changes': tuple(values['changes'])})
    try:
        figures = measured(part, setting)
    except Exception as error:
        if not does_not_fit(error):
            raise
        print(f'  {setting.batch} examples do not fit: {str(error).splitlines()[0][:200]}')
        return DOES_NOT_FIT
    figures['graphics_card'] = graphics_card()
    Path(result_file).write_text(json.dumps(figures))
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
