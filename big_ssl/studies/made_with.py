"""The last section of a study's report: what somebody needs who makes it again."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Mapping, Sequence

from etils import epath

from big_ssl.report.page import Section, Table
from big_ssl.studies.results import read_result
from big_ssl.studies.run import DONE, Run

PACKAGES = ('jax', 'flax', 'optax', 'orbax-checkpoint', 'tensorflow-cpu', 'numpy', 'scikit-learn')


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
    data: dict[str, str] = {}
    for run in runs:
        if states[run.name] == DONE:
            result = read_result(run, study)
            for table, fingerprint in (
                ('trained_on/data', 'trained_on/fingerprint'),
                ('evaluated/table', 'evaluated/data'),
            ):
                if fingerprint in result:
                    data[result[fingerprint]] = str(result.get(table, ''))
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
