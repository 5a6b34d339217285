"""What each config changes of the defaults, beside the text in tests/golden/.

A new key, or a changed default, is a diff of `defaults.txt` alone.

To accept a change: `python -m tests.test_golden`, and read the diff.
"""

import runpy
from pathlib import Path

import pytest

from big_ssl import config as config_lib
from big_ssl.studies import design, settings

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / 'golden'
STUDIES = [
    f'studies/{path.stem}{variant}'
    for path in sorted((ROOT / 'configs/studies').glob('*.py'))
    for variant in ('', ':demo')
]
NAMES = ['defaults', *STUDIES] + [
    f'{path.stem}{variant}'
    for path in sorted((ROOT / 'configs').glob('*.py'))
    for variant in ('', ':demo')
]


def resolved(name: str) -> str:
    """A line a key that a config sets otherwise; of a study, a line a run."""
    if name in STUDIES:
        return runs_of(name)
    values = config_lib.flat(config_lib.defaults())
    if name == 'defaults':
        return ''.join(f'{key} = {values[key]!r}\n' for key in values if values[key] is not None)
    stem, _, variant = name.partition(':')
    config = runpy.run_path(str(ROOT / f'configs/{stem}.py'))['get_config'](variant)
    found = config_lib.flat(config_lib.settle(config))
    values |= {
        f'method.{key}': about.default for key, about in config_lib.method_of(config).KEYS.items()
    }
    return ''.join(
        f'{key} = {value!r}\n'
        for key, value in found.items()
        if key not in values or value != values[key]
    )


def runs_of(study: str) -> str:
    stem, _, variant = study.partition(':')
    config = runpy.run_path(str(ROOT / f'configs/{stem}.py'))['get_config'](variant)
    config.natural_manifest = 'NATURAL.csv' if not variant else None
    runs = design.runs_of(config, frozenset())
    lines = [
        f'{run.name}: {run.file} from {run.begins_with} '
        + ' '.join(settings.flags_of(run.settings))
        for run in runs
    ]
    return '\n'.join(lines) + '\n'


def file_of(name: str) -> Path:
    return GOLDEN / f'{name.replace(":", ".")}.txt'


pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


@pytest.mark.parametrize('name', NAMES)
def test_nothing_changed_unseen(name):
    assert resolved(name) == file_of(name).read_text()


def test_no_text_is_left_behind():
    assert set(GOLDEN.glob('**/*.txt')) == {file_of(name) for name in NAMES}


if __name__ == '__main__':
    for name in NAMES:
        file_of(name).write_text(resolved(name))
