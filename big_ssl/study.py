"""A comparison of many runs: `python -m big_ssl.study --config=configs/studies/… --workdir=DIR`.

Runs what is not done yet, in an order in which each finds the weights that it begins with, and
writes DIR/report.html, DIR/result.json and DIR/figures/. A study that was stopped or killed goes on
when the same command is run again.

  --list       prints the command of every run, one a line, and runs nothing
  --level=N    with --list: only those that need N runs before them (for one Slurm array a level)
  --collect    writes the report from what is done, and runs nothing

Exit codes: 0 done; 1 a run crashed, the report holds the others; 2 the input is wrong; 75 stopped
after saving, run the same command again.
"""

import contextlib
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath

from big_ssl import command_line
from big_ssl.errors import InputError, RunsFailed
from big_ssl.files import REPORT, is_remote
from big_ssl.studies import design, execute, settings
from big_ssl.studies.run import Run

log = logging.getLogger('big_ssl')
EXAMPLE = 'python -m big_ssl.study --config=configs/studies/derm.py:demo --workdir=studies/derm'


def run(argv: Sequence[str]) -> None:
    """Does what the command line says.

    Raises:
      InputError, Preempted: as `big_ssl.main`.
      RunsFailed: a run crashed.
    """
    config, given, values = command_line.read(argv, _define, example=EXAMPLE)
    if not values.workdir:
        raise InputError('--workdir is missing: the folder of the study')
    workdir = values.workdir
    study = epath.Path(workdir if is_remote(workdir) else Path(workdir).resolve())
    runs = design.runs_of(config, given)
    for each in runs:
        each.check(study)
    if values.level is not None and not values['list'].value:
        raise InputError('--level=N is for --list')
    if values['list'].value:
        chosen = [each for each in runs if values.level in (None, _level(each, runs))]
        with contextlib.suppress(BrokenPipeError):  # of `| head`
            for each in chosen:
                print(shlex.join(['python', *each.arguments(study)]), flush=True)
        return
    try:
        study.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{study}: cannot be used as a folder: {error}') from None
    failed = 0
    if not values['collect'].value:
        from big_ssl.studies import preflight  # imports JAX

        preflight.check(runs, study)
        failed = execute.execute(runs, study)
    from big_ssl.studies import report  # imports matplotlib and scikit-learn

    report.write(config, runs, study, list(argv[1:]))
    log.info('done: %s', study / REPORT)
    if failed:
        raise RunsFailed(f'{failed} of {len(runs)} runs failed; their output is in {study}/logs')


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        print(_help())
        return command_line.DONE
    command_line.set_up_logging()
    return command_line.exit_code(lambda: run(argv))


def _help() -> str:
    keys = command_line.settings(settings.defaults())
    return '\n'.join(
        [
            __doc__ or '',
            f'For example: {EXAMPLE}',
            '',
            'Keys of every study and their defaults (see big_ssl/studies/settings.py); besides',
            '--config.STAGE.KEY and --config.every.KEY for each key of big_ssl.main (its --help):',
            *(line for line in keys if not line.startswith('  --config.every.')),
        ]
    )


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string('workdir', None, 'Folder of the study.', values)
    flags.DEFINE_boolean('list', False, 'Print the commands.', values)
    flags.DEFINE_integer('level', None, 'Only those that need so many runs before them.', 0,
                         flag_values=values)  # fmt: skip
    flags.DEFINE_boolean('collect', False, 'Write the report from what is done.', values)


def _level(run: Run, runs: Sequence[Run]) -> int:
    by_name = {each.name: each for each in runs}
    return 0 if run.begins_with is None else 1 + _level(by_name[run.begins_with], runs)


if __name__ == '__main__':
    sys.exit(main(sys.argv))
