"""Reading `--config=FILE --config.KEY=VALUE …`, and saying in one line what is wrong with it."""

import logging
import os
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from absl import flags
from absl import logging as absl_logging
from ml_collections import ConfigDict, config_flags

from big_ssl import config as config_lib
from big_ssl import earlier_configs
from big_ssl.errors import (
    DIVERGED,
    DONE,
    FAILED,
    PREEMPTED,
    WRONG_INPUT,
    Diverged,
    InputError,
    Preempted,
    RunsFailed,
)
from big_ssl.keys import Key, nearest

log = logging.getLogger(__name__)

_OF_CONFIG = re.compile(r'(--?(?:no)?config\.)([^=]+)(=.*)?', re.DOTALL)
_SWITCH = re.compile(r'--?config(\.\w+)?\.(task|method\.name|model\.name)|--?config')
HELP = frozenset({'--help', '-h', '--helpfull'})


class Command(NamedTuple):
    """What a command line asks for.

    Attributes:
      config: of the file, with what the command line sets.
      given: keys of the config that the command line sets.
      flags: values of the other flags.
    """

    config: ConfigDict
    given: frozenset[str]
    flags: flags.FlagValues


def read(
    argv: Sequence[str], define: Callable[[flags.FlagValues], None], *, example: str
) -> Command:
    """Reads a command line; a key that no longer exists is passed over, and a line says why.

    Args:
      argv: the program's name and its arguments.
      define: adds the flags besides `--config`.
      example: a command that works, for the messages.

    Raises:
      InputError: an unknown flag or key, a value of the wrong type, a file that does not load.
    """
    # ml_collections wants the config file before what overrides it.
    argv = [argv[0], *sorted(argv[1:], key=lambda flag: not flag.startswith('--config='))]
    argv, retired = _by_names_of_now(argv)
    switches, others = _switches(argv)
    values = flags.FlagValues()
    define(values)
    try:
        first = flags.FlagValues()
        file = config_flags.DEFINE_config_file(
            'config', None, '', flag_values=first, lock_config=True, sys_argv=switches
        )
        first(switches)
        if not first['config'].present:
            raise InputError(f'--config is missing; for example: {example}')
        config_lib.keys(file.value)  # raises here what went wrong with the file
        holder = config_flags.DEFINE_config_dict(
            'config', file.value, flag_values=values, sys_argv=others
        )
        rest = values(others)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f'--config: {_first_line(error)}') from None
    except Exception as error:  # whatever a config file or a parser of flags raises
        raise InputError(_explain(error, argv, values)) from None
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; flags are --NAME=VALUE')
    set_by_flags = {
        key: value
        for each in (first, values)
        for key, value in config_flags.get_override_values(each['config']).items()
    }
    given = frozenset(set_by_flags) | config_lib.brought(set_by_flags)
    _say_retired(holder.value, retired)
    return Command(holder.value, given, values)


def _switches(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The config file and the keys that bring others (`model.name`), and all other arguments."""
    parts: tuple[list[str], list[str]] = ([argv[0]], [argv[0]])
    to: list[str] | None = None  # where the value of `--config.KEY VALUE` goes
    for argument in argv[1:]:
        if to is not None and not argument.startswith('-'):
            to.append(argument)
            to = None
            continue
        first = bool(_SWITCH.fullmatch(argument.partition('=')[0]))
        parts[not first].append(argument)
        to = parts[0] if first and '=' not in argument else None
    return parts


def exit_code(action: Callable[[], None]) -> int:
    """Does something and returns the exit code that its exception means, after one line."""
    try:
        action()
        return DONE
    except InputError as error:
        return _end(WRONG_INPUT, f'error: {error}')
    except Diverged as error:
        return _end(DIVERGED, f'error: training diverged: {error}')
    except RunsFailed as error:
        return _end(FAILED, f'error: {error}; run the same command again to retry')
    except Preempted as error:
        return _end(PREEMPTED, f'{error}; run the same command again to go on')


def settings(config: ConfigDict, known: Mapping[str, Key] | None = None) -> Iterable[str]:
    """`--config.KEY=DEFAULT` for every key, with what is `known` of it, for a help text."""
    known = known or {}
    for key, value in config_lib.flat(config).items():
        flag = f'  --config.{key}={value}'
        yield f'{flag:44}  {known[key].line}' if key in known else flag


def _without_closed_loops(unraisable: 'sys.UnraisableHookArgs') -> None:
    """Passes over what tensorstore cannot deliver once a write has failed: that was raised."""
    if str(unraisable.exc_value) != 'Event loop is closed':
        sys.__unraisablehook__(unraisable)


def set_up_logging() -> None:
    """Our own lines to stderr; what libraries log as errors, by absl, they raise too."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # only decodes here; it announces itself
    flags.FLAGS.mark_as_parsed()  # else absl says so before its first line
    absl_logging.set_verbosity(absl_logging.FATAL)
    # orbax leaves tasks behind where a checkpoint is damaged; asyncio would tell at the very end
    logging.getLogger('asyncio').setLevel(logging.CRITICAL)
    sys.unraisablehook = _without_closed_loops
    logger = logging.getLogger('big_ssl')
    logger.handlers[:] = [logging.StreamHandler()]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    start_lines_with('')


def start_lines_with(text: str) -> None:
    """Puts a text between the time and what is said: which host speaks, in a job of several."""
    for handler in logging.getLogger('big_ssl').handlers:
        handler.setFormatter(logging.Formatter(f'%(asctime)s {text}%(message)s', '%H:%M:%S'))


def _end(code: int, line: str) -> int:
    print(' '.join(line.split()), file=sys.stderr, flush=True)
    return code


def _by_names_of_now(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments by today's names of keys, without retired keys, and these."""
    kept: list[str] = []
    retired: list[str] = []
    is_value = False
    for argument in argv:
        found = _OF_CONFIG.fullmatch(argument)
        if found and earlier_configs.retired(found[2]):
            retired.append(found[2])
            is_value = found[3] is None  # the next one, in `--config.KEY VALUE`
            continue
        if not is_value or argument.startswith('-'):
            kept.append(_by_name_of_now(*found.groups()) if found else argument)
        is_value = False
    return kept, retired


def _by_name_of_now(start: str, key: str, value: str | None) -> str:
    if (name := earlier_configs.name_now(key)) != key:
        log.warning('--config.%s is called --config.%s now', key, name)
    return f'{start}{name}{value or ""}'


def _say_retired(config: ConfigDict, keys: Iterable[str]) -> None:
    for key in keys:
        stage, why = earlier_configs.retired(key) or ('', '')
        of_run = config.get(stage) if stage else config
        if not isinstance(of_run, ConfigDict) or 'task' not in of_run:
            raise InputError(f'unknown key --config.{key}')
        log.warning('--config.%s: %s', key, why)


def _explain(error: Exception, argv: Sequence[str], values: flags.FlagValues) -> str:
    """One line for what absl and ml_collections say in many ways."""
    known = [f'config.{key}' for key in _keys_of_file(argv)]
    if isinstance(error, flags.UnrecognizedFlagError):
        names = [*known, *values]
        return f'unknown flag --{error.flagname}{nearest(error.flagname, names)}'
    if isinstance(error, (AttributeError, KeyError)):
        given = [arg.lstrip('-').split('=')[0] for arg in argv if arg.startswith('-')]
        for name in given:
            if name.startswith('config.') and name not in known:
                return f'unknown key --{name}{nearest(name, known)}'
    if isinstance(error, flags.Error):
        return _first_line(error)
    return f'--config: {type(error).__name__}: {_first_line(error)}'


def _keys_of_file(argv: Sequence[str]) -> list[str]:
    """Those of the config file, or of a run where it does not load."""
    path, _, variant = (
        argv[1].removeprefix('--config=').partition(':') if argv[1:] else ('', '', '')
    )
    try:
        return config_lib.keys(runpy.run_path(path)['get_config'](variant))
    except Exception:  # the caller is about to say what is wrong with it
        return config_lib.keys(config_lib.defaults())


def _first_line(error: Exception) -> str:
    """Of a traceback within the text only its last line, and no dump of the other keys."""
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    text, *traceback = text.split(' Other fields present')[0].split('Traceback ', 1)
    if traceback:
        text += traceback[0].strip().splitlines()[-1]
    return ' '.join(text.split())[:400]
