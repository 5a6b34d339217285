"""The same pieces of work on Apache Beam's direct runner, with several workers."""

import logging

import pytest

pytest.importorskip('apache_beam', reason="Apache Beam is not installed (big_ssl's extra 'beam')")

from big_ssl import prepare
from tests.preparation.sets import files, made_table

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')
WORKERS = '--direct_num_workers=2 --direct_running_mode='


@pytest.fixture(autouse=True)
def quiet():
    """Beam logs every connection."""
    logging.getLogger('apache_beam').setLevel(logging.ERROR)


def prepared(folder, table, out, *flags):
    arguments = [f'--manifest={table}', f'--out={folder / out}', '--shard_mb=1', *flags]
    return prepare.main(['prepare', *arguments])


@pytest.mark.parametrize(
    'mode', ['multi_threading', pytest.param('multi_processing', marks=pytest.mark.long)]
)
def test_records_are_those_of_the_local_way(tmp_path, mode):
    table = made_table(tmp_path)
    assert prepared(tmp_path, table, 'here', '--workers=1') == 0
    options = f'--beam_options={WORKERS}{mode}'
    assert prepared(tmp_path, table, 'beam', '--beam_runner=DirectRunner', options) == 0
    assert files(tmp_path / 'beam') == files(tmp_path / 'here')
    assert not (tmp_path / 'beam.partial').exists()


def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys):
    table = made_table(tmp_path)
    (tmp_path / 'images/c0_0.png').write_bytes(b'')
    options = f'--beam_options={WORKERS}multi_threading'
    assert prepared(tmp_path, table, 'beam', '--beam_runner=DirectRunner', options) == 2
    assert 'error: ' in (last := capsys.readouterr().err.splitlines()[-1])
    assert f'{table} row 2' in last and 'the file is empty' in last


def test_an_error_within_a_piece_of_work_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    """A source that changes between looking and writing."""
    table = made_table(tmp_path)
    from big_ssl.preparation import make

    write = make._write

    def meddle(*arguments):
        (tmp_path / 'images/c0_0.png').write_bytes((tmp_path / 'images/c1_0.jpg').read_bytes())
        return write(*arguments)

    monkeypatch.setattr(make, '_write', meddle)
    options = f'--beam_options={WORKERS}multi_threading'
    assert prepared(tmp_path, table, 'beam', '--beam_runner=DirectRunner', options) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('error: ') and 'has changed since it was looked at' in last
    assert not (tmp_path / 'beam').exists()
