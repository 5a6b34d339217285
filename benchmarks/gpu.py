"""A training step on one GPU against PyTorch's and against what the device gives at most.

  python -m benchmarks.gpu [--networks=r50,r50x4,r152x2] [--parts=network,rival,...]
      [--batch=auto|N] [--images=FOLDER | --manifest=FILE] [--json=FILE] [--seconds=4]
  python -m benchmarks.gpu --toy          # small enough for a CPU

Needs no TensorFlow. Every part is a process of its own, so that its memory's peak is its own;
big_ssl and PyTorch take turns, `--rounds` each. `--batch=auto` is the largest power of two at which
both networks and the whole step fit, found by trying. The JSON file is written after every part, a
network's figures are printed when it is done: a run that is cut off keeps what it had.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import table
from benchmarks.measure import DOES_NOT_FIT, PARTS, graphics_card
from benchmarks.pictures import draw_images, table_of
from benchmarks.settings import NETWORKS, Setting, first_try

_MEMORY_SHARE = 0.92  # of a GPU, for JAX; by default it takes three quarters
_CPU_BATCH = 8
_DRAWN = {'count': 512, 'side': 448}
_TOY = {'networks': 'toy', 'batch': 4, 'seconds': 1.0, 'repeats': 3, 'rounds': 1}
_TOY_DRAWN = {'count': 12, 'side': 48}


class DoesNotFit(Exception):
    """Memory ran out at this batch."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a part failed."""
    flags = _flags(arguments)
    found: dict[str, Any] = {
        'command': sys.argv,
        'graphics_card': graphics_card(),
        'device': '',
        'versions': {},
        'images': '',
        'ceilings': None,
        'networks': {},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(flags, Path(folder), found)
        if 'ceilings' in flags.parts:
            run.ceilings()
        for name in flags.networks:
            run.network(name)
            print(table.of_network(name, found), flush=True)
    print(table.of_machine(found))
    return int(run.failed)


class _Run:
    """The parts one after the other, each result written as soon as it is there."""

    def __init__(self, flags: argparse.Namespace, folder: Path, found: dict[str, Any]) -> None:
        self._flags, self._folder, self._found = flags, folder, found
        self._start, self.failed = time.monotonic(), False
        self._manifest = _manifest(flags, folder) if 'images' in flags.parts else ''
        found['images'] = flags.images or flags.manifest or 'noise'

    def ceilings(self) -> None:
        try:
            setting = self._setting(self._flags.networks[0], 1)
            self._found['ceilings'] = self._measured('ceilings', setting)
        except (DoesNotFit, RuntimeError) as error:
            self.failed = True
            print(f'ceilings failed: {error}')
        self._write()

    def network(self, name: str) -> None:
        """Every part of one network, at the largest batch that fits where none is given."""
        batch = self._flags.batch or self._first_batch(name)
        while True:
            entry = self._found['networks'][name] = {
                'batch': batch,
                'size': NETWORKS[name].image_size,
                'parts': {},
                'failed': {},
            }
            try:
                self._at_batch(self._setting(name, batch), entry)
                return
            except DoesNotFit:
                batch //= 2

    def _at_batch(self, setting: Setting, entry: dict[str, Any]) -> None:
        may_halve = not self._flags.batch and setting.batch > 2
        for part in self._order():
            if part in entry['failed']:
                continue
            halves = may_halve and part == 'images'  # which alone lie on the device as well
            try:
                result = self._measured(part, setting, halves=halves)
            except DoesNotFit:
                if may_halve and part in ('network', 'rival', 'step'):
                    raise
                entry['failed'][part] = f'{setting.batch} examples do not fit'
            except RuntimeError as error:
                entry['failed'][part] = str(error)
            else:
                _merge(entry['parts'], part, result)
            self.failed |= part in entry['failed']
            entry['figures'] = table.figures(entry['parts'], self._found['ceilings'])
            self._write()

    def _order(self) -> list[str]:
        """Both networks by turns, then what there is of the others."""
        turns = [part for part in ('network', 'rival') if part in self._flags.parts]
        others = [part for part in ('step', 'trace', 'images') if part in self._flags.parts]
        return [*turns, *others[:1], *turns * (self._flags.rounds - 1), *others[1:]]

    def _measured(self, part: str, setting: Setting, *, halves: bool = False) -> dict[str, Any]:
        """Of a fresh process.

        Args:
          halves: the batch until it fits; the result says which it was.

        Raises:
          DoesNotFit: its memory ran out.
          RuntimeError: it failed otherwise.
        """
        asked, result = self._folder / 'setting.json', self._folder / 'result.json'
        asked.write_text(json.dumps(dataclasses.asdict(setting)))
        result.unlink(missing_ok=True)
        passed = time.monotonic() - self._start
        print(f'[{passed:4.0f} s] {setting.network}, batch {setting.batch}: {part}', flush=True)
        command = [sys.executable, '-m', 'benchmarks.measure', part, str(asked), str(result)]
        on_card = bool(self._found['graphics_card'])
        code = subprocess.run(command, env=_environment(part, on_card, self._flags.toy)).returncode
        if code == DOES_NOT_FIT:
            if not halves or setting.batch <= 2:
                raise DoesNotFit
            smaller = dataclasses.replace(setting, batch=setting.batch // 2)
            return self._measured(part, smaller, halves=True)
        if code or not result.exists():
            raise RuntimeError(f'exit code {code}, see above')
        found = json.loads(result.read_text())
        self._found['device'] = found.pop('device')
        self._found['versions'] |= found.pop('versions')
        self._found['graphics_card'] |= found['graphics_card']
        return found | {'batch': setting.batch}

    def _setting(self, network: str, batch: int) -> Setting:
        flags = self._flags
        return Setting(
            network=network,
            batch=batch,
            seconds=flags.seconds,
            repeats=flags.repeats,
            manifest=self._manifest,
            changes=tuple(flags.set),
            compiler='aot_eager' if flags.toy else 'inductor',
            product=256 if flags.toy else 8192,
            copied=2**22 if flags.toy else 2**32,
        )

    def _first_batch(self, name: str) -> int:
        card = self._found['graphics_card']
        if not card:
            return _CPU_BATCH
        return first_try(NETWORKS[name], _MEMORY_SHARE * float(card['memory.total']) * 2**20)

    def _write(self) -> None:
        if self._flags.json:
            Path(self._flags.json).write_text(json.dumps(self._found, indent=1) + '\n')


def _merge(parts: dict[str, Any], part: str, result: dict[str, Any]) -> None:
    """A further round adds its repeats; all else is the newest."""
    earlier = parts.get(part, {}).get('step_seconds', [])
    parts[part] = result
    if earlier:
        result['step_seconds'] = earlier + result['step_seconds']


def _environment(part: str, on_card: bool, toy: bool) -> Mapping[str, str]:
    """Of the process for a part; what is set already stays."""
    flags = [os.environ.get('XLA_FLAGS', '')]
    if part == 'trace' and on_card:  # kernels of a command buffer have no name
        flags.append('--xla_gpu_enable_command_buffer=')
    if toy:  # it compiles more than it computes
        flags.append('--xla_backend_optimization_level=1')
    usual = {
        'CUDA_VISIBLE_DEVICES': '0',
        'XLA_PYTHON_CLIENT_PREALLOCATE': 'true',  # growing, it comes to lie in pieces
        'PYTHONUNBUFFERED': '1',
    }
    if 'XLA_PYTHON_CLIENT_MEM_FRACTION' not in os.environ:  # the old name; XLA refuses both
        usual['XLA_CLIENT_MEM_FRACTION'] = str(_MEMORY_SHARE)
    if on_card:  # else JAX goes on with the CPU where it cannot use the GPU
        usual['JAX_PLATFORMS'] = 'cuda'
    return usual | os.environ | {'XLA_FLAGS': ' '.join(flags).strip()}


def _manifest(flags: argparse.Namespace, folder: Path) -> str:
    if flags.manifest:
        return str(Path(flags.manifest).resolve())
    images = Path(flags.images) if flags.images else folder / 'drawn'
    if not flags.images:
        print('neither --images nor --manifest: the part images draws noise')
        draw_images(images, **_TOY_DRAWN if flags.toy else _DRAWN)
    return str(table_of(images, folder / 'images.csv'))


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--networks', default='r50,r50x4,r152x2', help=', '.join(NETWORKS))
    parser.add_argument('--parts', default=','.join(PARTS), help=', '.join(PARTS))
    parser.add_argument(
        '--batch', type=_batch, default='auto', help='examples, of two views each, or auto'
    )
    parser.add_argument('--images', help='a folder of real images')
    parser.add_argument('--manifest', help='a table of real images')
    parser.add_argument('--json', help='where all numbers go')
    parser.add_argument('--seconds', type=float, default=4.0, help='of measuring, for each figure')
    parser.add_argument('--repeats', type=int, default=5, help='in those seconds')
    parser.add_argument('--rounds', type=int, default=2, help='of big_ssl and PyTorch by turns')
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE',
        help='of the config, for big_ssl: --set=compute.remat=norms',
    )  # fmt: skip
    parser.add_argument('--toy', action='store_true', help='small enough for a CPU')
    if parser.parse_known_args(arguments)[0].toy:
        parser.set_defaults(**_TOY)
    flags = parser.parse_args(arguments)
    if flags.images and flags.manifest:
        parser.error('--images and --manifest: one of them')
    for name, known in (('networks', NETWORKS), ('parts', PARTS)):
        chosen = getattr(flags, name).split(',')
        if unknown := [each for each in chosen if each not in known]:
            parser.error(f'--{name}: {", ".join(unknown)}; choose among {", ".join(known)}')
        setattr(flags, name, chosen)
    return flags


def _batch(text: str) -> int | None:
    return None if text == 'auto' else int(text)


if __name__ == '__main__':
    sys.exit(main())
