"""Trains, fine-tunes or evaluates: `python -m big_ssl.main --config=configs/… --workdir=DIR`.

Exit codes: 0 done; 2 the input is wrong; 3 training diverged; 75 stopped after saving, run the same
command again.
"""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from big_ssl import config as config_lib
from big_ssl.errors import Diverged, InputError, Preempted

log = logging.getLogger('big_ssl')
DONE, WRONG_INPUT, DIVERGED, PREEMPTED = 0, 2, 3, 75
EXAMPLE = 'python -m big_ssl.main --config=configs/derm_micle.py:demo --workdir=runs/micle'


def parse(argv: Sequence[str]) -> tuple[ConfigDict, str]:
    """The settled config and the workdir of a command line.

    Raises:
      InputError: an unknown flag or key, a value of the wrong type, a rule of the config broken.
    """
    # ml_collections wants the config file before what overrides it.
    argv = [argv[0], *sorted(argv[1:], key=lambda flag: not flag.startswith('--config='))]
    values = flags.FlagValues()
    flags.DEFINE_string('workdir', None, 'Folder of the run, local or gs://.', flag_values=values)
    holder = config_flags.DEFINE_config_file(
        'config',
        None,
        'A file of configs/, with :VARIANT if it has one.',
        flag_values=values,
        lock_config=True,
        sys_argv=list(argv),
    )
    try:
        rest = values(list(argv))
    except InputError:
        raise
    except Exception as error:  # whatever a config file or a parser of flags raises
        raise InputError(_explain(error, argv)) from None
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; flags are --NAME=VALUE')
    if not values['config'].present:
        raise InputError(f'--config is missing; for example: {EXAMPLE}')
    if not values.workdir:
        raise InputError('--workdir is missing: the folder for checkpoints and results')
    try:
        config = holder.value
        overridden = config_flags.get_override_values(values['config'])
        return config_lib.settle(config, overridden), values.workdir
    except OSError as error:
        raise InputError(f'--config: {_first_line(error)}') from None


def run(config: ConfigDict, workdir: str) -> None:
    """Does what `config.task` says in `workdir`."""
    from big_ssl.train import distributed, workdir as workdir_lib  # noqa: I001  JAX starts here

    distributed.start()
    folder = workdir_lib.claim(workdir, config.to_dict())
    if (folder / workdir_lib.RESULT).exists():
        log.info('already done: %s', folder / workdir_lib.RESULT)
        return
    task = importlib.import_module(f'big_ssl.tasks.{config.task}')
    task.run(config, folder)
    log.info('done: %s and %s', folder / workdir_lib.RESULT, folder / 'report.html')


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if {'--help', '-h', '--helpfull'} & set(argv):
        print(_help())
        return DONE
    _set_up_logging()
    try:
        run(*parse(argv))
        return DONE
    except InputError as error:
        return _end(WRONG_INPUT, f'error: {error}')
    except Diverged as error:
        return _end(DIVERGED, f'error: training diverged: {error}')
    except Preempted as error:
        return _end(PREEMPTED, f'{error}; run the same command again to go on')


def _end(code: int, line: str) -> int:
    print(' '.join(line.split()), file=sys.stderr, flush=True)
    return code


def _help() -> str:
    known = config_lib.defaults()
    rows = [f'  --config.{key}={config_lib.get(known, key)}' for key in config_lib.keys(known)]
    return '\n'.join(
        [
            __doc__ or '',
            f'For example: {EXAMPLE}',
            '',
            'Every key and its default; config files set their own (see big_ssl/config.py):',
            *rows,
        ]
    )


def _explain(error: Exception, argv: Sequence[str]) -> str:
    """One line for what absl and ml_collections say in many ways."""
    known = [f'config.{key}' for key in config_lib.keys(config_lib.defaults())]
    if isinstance(error, flags.UnrecognizedFlagError):
        names = [*known, 'config', 'workdir']
        return f'unknown flag --{error.flagname}{config_lib.nearest(error.flagname, names)}'
    if isinstance(error, (AttributeError, KeyError)):
        given = [arg.lstrip('-').split('=')[0] for arg in argv if arg.startswith('-')]
        for name in given:
            if name.startswith('config.') and name not in known:
                return f'unknown key --{name}{config_lib.nearest(name, known)}'
    if isinstance(error, flags.Error):
        return _first_line(error)
    return f'--config: {type(error).__name__}: {_first_line(error)}'


def _first_line(error: Exception) -> str:
    """Of a traceback within the text only its last line, and no dump of the other keys."""
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    text, *traceback = text.split(' Other fields present')[0].split('Traceback ', 1)
    if traceback:
        text += traceback[0].strip().splitlines()[-1]
    return ' '.join(text.split())[:400]


def _set_up_logging() -> None:
    """Our own lines to stderr; of the libraries' (absl's logger) only errors."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # only decodes here; it announces itself
    flags.FLAGS.mark_as_parsed()  # else absl says so before its first line
    absl_logging.set_verbosity(absl_logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s %(message)s', '%H:%M:%S'))
    logger = logging.getLogger('big_ssl')
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == '__main__':
    code = main(sys.argv)
    sys.stdout.flush()
    sys.exit(code)
