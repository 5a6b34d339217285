"""Will it fit? Compiles a config's training step for TPUs that are not there, or for this machine.

    python -m big_ssl.fit --config=configs/derm_simclr.py --topology=v5e-16

Prints the memory a chip, what a step computes and sends, and the largest batch that fits, from the
real step as the compiler for that chip (libtpu, from the package index) sees it. Nothing is run, no
image is opened and no network is asked. Compiling takes minutes; --config.compute.scan_blocks=True
compiles the equal blocks of a stage once, which keeps deep networks near ResNet-50's time.

Exit codes: 0 answered, fitting or not; 2 the input is wrong.
"""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from big_ssl import command_line
from big_ssl import config as config_lib
from big_ssl.errors import InputError

EXAMPLE = 'python -m big_ssl.fit --config=configs/derm_simclr.py --topology=v5e-16'


def run(config: ConfigDict, values: flags.FlagValues) -> None:
    """Answers on stdout, and as JSON where that is asked for.

    Raises:
      InputError: nothing can be planned so, or the figures cannot be written.
    """
    if values.json and not epath.Path(values.json).parent.is_dir():  # now, not in an hour
        raise InputError(f'--json={values.json}: No such folder')
    if values.topology != 'local':
        os.environ['JAX_PLATFORMS'] = 'cpu'  # the TPU of this machine may be at work
    from big_ssl.planning import plan, summary  # noqa: I001  JAX starts here

    found = plan.make(
        config,
        values.topology,
        search=values.search,
        classes=values.classes,
        images=values.images,
    )
    print('\n'.join(summary.lines(found)), flush=True)
    if values.json:
        _write(values.json, summary.data(found))


def _write(path: str, data: dict[str, Any]) -> None:
    from big_ssl.train import workdir

    try:
        workdir.write(epath.Path(path), json.dumps(data, indent=2) + '\n')
    except OSError as error:
        raise InputError(f'--json={path}: {error.strerror}') from None


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        'topology', 'local', 'A TPU slice as the cloud names it, or local.', flag_values=values
    )
    flags.DEFINE_string('json', '', 'A file for the figures.', flag_values=values)
    flags.DEFINE_bool('search', True, 'Look for the largest batch that fits.', flag_values=values)
    flags.DEFINE_integer('classes', 27, 'Of fine-tuning, if the config names none.', 1,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_integer('images', 0, 'Of the data set, for dataset.placement=device.', 0,
                         flag_values=values)  # fmt: skip


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        print(_help())
        return command_line.DONE
    command_line.set_up_logging()

    def action() -> None:
        config, given, values = command_line.read(argv, _define, example=EXAMPLE)
        run(config_lib.settle(config, given), values)

    return command_line.exit_code(action)


def _help() -> str:
    values = flags.FlagValues()
    _define(values)
    names = ('topology', 'search', 'json', 'classes', 'images')
    lines = [
        __doc__ or '',
        'A topology is v2-N, v3-N, v4-N or v5p-N (N cores, two a chip), v5e-N or v6e-N (N chips),',
        'or its sides in chips (v5e:4x8, v4:2x2x4), or local: the devices of this machine.',
        '',
        *(f'  --{name}={values[name].default!s:8s} {values[name].help}' for name in names),
        '',
        'The keys of a config: python -m big_ssl.main --help',
    ]
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main(sys.argv))
