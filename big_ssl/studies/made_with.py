"""The last section of a study's report: what somebody needs who makes it again."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from etils import epath

from big_ssl.errors import InputError
from big_ssl.report.page import Section, Table
from big_ssl.studies.results import read_result
from big_ssl.studies.run import DONE, RUNS, Run

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-cpu', 'numpy', 'scikit-learn')


class Read(NamedTuple):
    """A table that a run read, as it was then."""

    run: Run
    table: str
    fingerprint: str


def tables_read(runs: Sequence[Run], states: Mapping[str, str], study: epath.Path) -> list[Read]:
    """One for each run that is done.

    Raises:
      InputError: a table was changed between two runs.
    """
    found: list[Read] = []
    first: dict[str, Read] = {}
    for run in runs:
        result = read_result(run, study) if states[run.name] == DONE else {}
        if 'evaluated/data' in result:
            new = Read(run, str(result['evaluated/table']), result['evaluated/data'])
        elif 'trained_on/fingerprint' in result:
            new = Read(run, str(result['trained_on/data']), result['trained_on/fingerprint'])
        else:
            continue
        known = first.setdefault(new.table, new)
        if known.fingerprint != new.fingerprint:
            raise InputError(
                f'{new.table} was changed between {known.run.name} and {run.name}: delete the '
                f'folders of the runs made with the older one below {study / RUNS}'
            )
        found.append(new)
    return found


def section(
    runs: Sequence[Run],
    states: Mapping[str, str],
    read: Sequence[Read],
    study: epath.Path,
    command: Sequence[str],
) -> Section:
    """Commands, versions and fingerprints of the data; and what is not done.

    Args:
      read: `tables_read`.
      command: arguments of the study's own command line.
    """
    versions = [['python', platform.python_version()]]
    for name in ('big_ssl', *PACKAGES):
        try:
            versions.append([name, importlib.metadata.version(name)])
        except importlib.metadata.PackageNotFoundError:
            continue
    data = {each.fingerprint: each.table for each in read}
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
