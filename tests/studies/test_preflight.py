"""What is wrong with a table is said before anything trains, for each stage that reads it."""

import csv
import shutil
from pathlib import Path

import pytest

from big_ssl import study
from big_ssl.studies import execute
from tests import helpers

PATH, CASE, LABEL, SPLIT = 0, 1, 3, 4  # columns of the tables


@pytest.fixture
def command(as_a_fresh_process, tmp_path, tiny_manifest, monkeypatch):
    """A study of derm.py on three tables, each a folder of its own."""
    monkeypatch.setattr(execute, '_do', lambda *_: pytest.fail('it ran'))
    for name in ('own', 'natural', 'there'):
        shutil.copytree(Path(tiny_manifest).parent, tmp_path / name)
    return [
        'study', '--config=configs/studies/derm.py', f'--workdir={tmp_path}/study',
        f'--config.every.dataset.manifest={tmp_path}/own/table.csv',
        f'--config.natural_manifest={tmp_path}/natural/table.csv',
        f'--config.elsewhere_manifest={tmp_path}/there/table.csv',
        '--config.every.image_size=16', '--config.every.model.depth=18',
        '--config.finetune.labels.classes=()', '--config.finetune.labels.other=',
        '--config.elsewhere.labels.other=',
    ]  # fmt: skip


def change(table: Path, row: int, column: int, value: str) -> None:
    header, *rows = list(csv.reader(table.read_text().splitlines()))
    rows[row][column] = value
    helpers.write_table(table, rows, header)


def refused(command: list[str], capsys) -> str:
    assert study.main(command) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_tables_without_a_fault_are_looked_at_once_a_stage_and_trained_on(
    command, monkeypatch, capsys
):
    begun = []
    monkeypatch.setattr(execute, '_do', lambda run, *_: begun.append(run) or 1)
    assert study.main(command) == 1
    assert begun
    looked = [line for line in capsys.readouterr().err.splitlines() if 'looking at' in line]
    assert {line.split('/')[-1] for line in looked} == {'seed0'}


@pytest.mark.parametrize(
    ('table', 'row', 'column', 'value', 'expected'),
    [
        ('own', 2, LABEL, 'b', "own/table.csv row 4: label 'b', but 'a' for the same case"),
        ('natural', 0, PATH, 'none.png', 'natural/table.csv row 2: '),
        ('there', 4, LABEL, 'c', "there/table.csv row 6: label 'c'"),
        ('there', 5, PATH, 'none.png', 'there/table.csv row 7: '),
    ],
)
def test_a_row_that_a_later_run_would_refuse(
    command, tmp_path, capsys, table, row, column, value, expected
):
    change(tmp_path / table / 'table.csv', row, column, value)
    line = refused(command, capsys)
    assert expected in line and 'found before any training, for ' in line
    assert not (tmp_path / 'study' / 'runs').exists()


def test_images_of_a_case_that_disagree_elsewhere(command, tmp_path, capsys):
    """The line names the way out, and it is one."""
    change(tmp_path / 'there' / 'table.csv', 1, LABEL, 'b')
    change(tmp_path / 'there' / 'table.csv', 1, SPLIT, 'test')
    change(tmp_path / 'there' / 'table.csv', 2, SPLIT, 'test')
    line = refused(command, capsys)
    assert '--config.aggregate=none' in line and '--config.STAGE.KEY' in line


@pytest.mark.parametrize(
    ('flag', 'expected'),
    [
        ("--config.subgroups=('sex',)", "own/table.csv: no column 'sex' (--config.subgroups"),
        ('--config.elsewhere_manifest=/none.csv', '/none.csv'),
        ('--config.elsewhere.splits.evaluate=shift_test', "no row has split 'shift_test'"),
        ('--level=1', '--level=N is for --list'),
    ],
)
def test_settings_that_do_not_fit_the_tables(command, capsys, flag, expected):
    assert expected in refused([*command, flag], capsys)
