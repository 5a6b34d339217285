"""Trains, fine-tunes or evaluates: `python -m big_ssl.main --config=configs/… --workdir=DIR`.

Exit codes: 0 done; 2 the input is wrong; 3 training diverged; 75 stopped after saving, run the same
command again.
"""

import functools
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from big_ssl import command_line, heap, methods, models
from big_ssl import config as config_lib
from big_ssl.errors import Diverged, InputError
from big_ssl.files import REPORT, RESULT

log = logging.getLogger('big_ssl')
EXAMPLE = 'python -m big_ssl.main --config=configs/derm_micle.py:demo --workdir=runs/micle'


class Command(NamedTuple):
    """What a command line asks for.

    Attributes:
      config: settled.
      workdir: as given.
      given: keys of the config that the command line sets.
    """

    config: ConfigDict
    workdir: str
    given: frozenset[str]


def parse(argv: Sequence[str]) -> Command:
    """Reads a command line.

    Raises:
      InputError: an unknown flag or key, a value of the wrong type, a rule of the config broken.
    """

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string('workdir', None, 'Folder of the run, local or gs://.', values)

    config, given, values = command_line.read(argv, define, example=EXAMPLE)
    if not values.workdir:
        raise InputError('--workdir is missing: the folder for checkpoints and results')
    return Command(config_lib.settle(config, given), values.workdir, given)


def run(config: ConfigDict, workdir: str, given: frozenset[str] = frozenset()) -> None:
    """Does what `config.task` says in `workdir`; `given` are keys that are not to be changed."""
    with heap.not_searched():
        from big_ssl.train import compilation, distributed  # JAX starts here

        importlib.import_module(_module(config))
    compilation.keep_compiled()
    distributed.start()
    command_line.start_lines_with(distributed.name())
    work = functools.partial(_work, config, workdir, given)
    distributed.run(work, command_line.exit_code)


def _work(config: ConfigDict, workdir: str, given: frozenset[str]) -> None:
    from big_ssl.train import init_from
    from big_ssl.train import workdir as workdir_lib

    if config.init_from and config.task in ('evaluate', 'predict', 'embed'):
        from big_ssl.tasks import trained

        trained.take_over(config, given)
    workdir_lib.keep_as_begun(config, workdir, given)
    init_from.settle(config, workdir, given)
    config_lib.check_backbone(config)  # which may be that of the weights by now
    folder = workdir_lib.claim(workdir, config.to_dict())
    with workdir_lib.held(folder), workdir_lib.on_a_sound_disk(folder):
        if (folder / RESULT).exists():
            log.info('already done: %s', folder / RESULT)
            return
        task = importlib.import_module(_module(config))
        try:
            task.run(config, folder)
        except Diverged as error:
            workdir_lib.record_divergence(folder, str(error))
            raise
    log.info('done: %s and %s', folder / RESULT, folder / REPORT)


def _module(config: ConfigDict) -> str:
    return f'big_ssl.tasks.{"training" if config.task in config_lib.TRAINING else config.task}'


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        print(_help())
        return command_line.DONE
    command_line.set_up_logging()
    return command_line.exit_code(lambda: run(*parse(argv)))


def _help() -> str:
    config = config_lib.defaults()
    return '\n'.join(
        [
            __doc__ or '',
            f'For example: {EXAMPLE}',
            '',
            'Every key and its default; config files set their own. Another method.name or',
            'model.name has other keys, see its file in big_ssl/methods or big_ssl/models:',
            f'methods {", ".join(methods.names())}; backbones {", ".join(models.names())}',
            '',
            *command_line.settings(config, config_lib.keys_of(config)),
        ]
    )


if __name__ == '__main__':
    heap.use_large_pages()
    code = main(sys.argv)
    sys.stdout.flush()
    sys.exit(code)
