"""The last section of a study's report: what somebody needs who makes it again."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from big_ssl.errors import InputError
from big_ssl.report.page import Section, Table
from big_ssl.studies.results import read_result
from big_ssl.studies.run import DONE, RUNS, Run

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-cpu', 'numpy', 'scikit-learn')


def check_same_tables(runs: Sequence[Run], states: Mapping[str, str], study: epath.Path) -> None:
    """Raises InputError if a table was changed between two runs."""
    first: dict[str, tuple[str, Run]] = {}
    for run, table, fingerprint in _tables(runs, states, study):
        known, other = first.setdefault(table, (fingerprint, run))
        if known != fingerprint:
            raise InputError(
                f'{table} was changed between {other.name} and {run.name}: delete the folders of '
                f'the runs made with the older one below {study / RUNS}'
            )


def section(
    runs: Sequence[Run],
    states: Mapping[str, str],
    study: epath.Path,
    command: Sequence[str],
) -> Section:
    """Commands, versions and fingerprints of the data; and what is not done.

    Args:
      command: arguments of the study's own command line.
    """
    versions = [['python', platform.python_version()]]
    for name in ('big_ssl', *PACKAGES):
        try:
            versions.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            continue
    data = {print_: table for _, table, print_ in _tables(runs, states, study)}
    not_done = [[name, state] for name, state in states.items() if state != DONE]
    shown = [
        Table('Versions', ['package', 'version'], [*versions, ['processors', os.cpu_count()]]),
        Table(
            'Data',
            ['fingerprint (SHA-256 of paths, ids, labels, splits)', 'table'],
            [*data.items()],
        ),
    ]
    if not_done:
        shown.append(Table('Runs that are not done', ['run', 'state'], not_done))
    commands = [shlex.join(['python', *run.arguments(study)]) for run in runs]
    return Section(
        'Made with',
        'The command of this study, and those of its runs in an order in which they can be run.',
        shown,
        commands=[shlex.join(['python', '-m', 'big_ssl.study', *command]), *commands],
    )


def _tables(
    runs: Sequence[Run], states: Mapping[str, str], study: epath.Path
) -> Iterator[tuple[Run, str, str]]:
    """Each run that is done with a table that it read and its fingerprint."""
    for run in runs:
        result = read_result(run, study) if states[run.name] == DONE else {}
        if 'evaluated/data' in result:
            yield run, str(result['evaluated/table']), result['evaluated/data']
        elif 'trained_on/fingerprint' in result:
            yield run, str(result['trained_on/data']), result['trained_on/fingerprint']
