"""Making a record set a second time: what is kept of the first, and what is not."""

import dataclasses
import logging
import shutil

import numpy as np
import pytest

from big_ssl.data import records
from big_ssl.data.images import decode
from big_ssl.errors import InputError
from big_ssl.preparation.make import make
from tests.helpers import save, smooth, write_table
from tests.preparation.sets import HEADER, config_of, files, opened, rows_of, run, settings_of

LOOKING, WRITING = 'looking at images', 'writing records'


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'big_ssl')
    settings = settings_of(tmp_path)
    make(settings, run)
    before = files(tmp_path / 'set')
    make(settings, lambda *_: pytest.fail('nothing is to be done'))
    assert 'already done' in caplog.text and files(tmp_path / 'set') == before
    with pytest.raises(InputError, match='--splits_from='):
        make(dataclasses.replace(settings, split_seed=1), run)
    (tmp_path / 'set').rename(tmp_path / 'moved')
    (tmp_path / 'set').mkdir()
    with pytest.raises(InputError, match='is there already and is no record set'):
        make(settings, run)


def counting(seen):
    """Does the work, and notes how many images were read for it."""

    def run_counted(tasks, what):
        left = [task for task in tasks if not task.is_done()]
        seen.append((what, sum(task.images for task in left)))
        run(tasks, what)

    return run_counted


def test_after_a_failure_only_what_has_to_be_is_looked_at_again(tmp_path, monkeypatch):
    monkeypatch.setattr('big_ssl.preparation.make._SCANNED_AT_ONCE', 10)
    settings = settings_of(tmp_path)
    bad = tmp_path / rows_of()[14][0]
    good = bad.read_bytes()
    bad.write_bytes(b'')
    seen = []
    for _ in range(2):
        with pytest.raises(InputError, match='row 16'):
            make(settings, counting(seen))
    make(dataclasses.replace(settings, on_bad='skip', out=str(tmp_path / 'set')), counting(seen))
    assert seen == [(LOOKING, 30), (LOOKING, 10), (LOOKING, 10), (WRITING, 29)]
    shutil.rmtree(tmp_path / 'set')
    seen.clear()
    with pytest.raises(InputError):
        make(settings, counting(seen))
    bad.write_bytes(good)
    make(settings, counting(seen))
    assert seen == [(LOOKING, 30), (LOOKING, 10), (WRITING, 30)]
    assert len(records.open_records(settings.out)) == 30


def test_a_source_that_changes_is_looked_at_again(tmp_path):
    settings = settings_of(tmp_path)
    changing = tmp_path / rows_of()[0][0]

    def meddle(tasks, what):
        if what == WRITING:
            save(changing, smooth(33, 44, noise=30))
        run(tasks, what)

    with pytest.raises(InputError, match=r'row 2: .*c0_0.png: has changed since'):
        make(settings, meddle)
    make(settings, run)
    stored = opened(config_of(name='records', data_dir=settings.out))
    assert stored.sizes[0].tolist() == [33, 44]
    np.testing.assert_array_equal(decode(stored, 0), smooth(33, 44, noise=30))


def test_unfinished_work_of_another_table_is_not_taken(tmp_path):
    settings = settings_of(tmp_path)

    def stop(tasks, what):
        run(tasks, what)
        if what == WRITING:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(settings, stop)
    write_table(tmp_path / 'table.csv', [row for row in rows_of() if row[1] != 'c4'], HEADER)
    make(settings, run)
    assert 'c4' not in records.open_records(settings.out).case_id
    assert not (tmp_path / 'set.partial').exists()
