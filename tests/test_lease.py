"""A lock in a bucket: held, given back, taken over from the dead, refused where there is life."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from etils import epath

from big_ssl import lease, processes
from big_ssl.errors import InputError

ROOT = Path(__file__).parent.parent
QUICK = 'from big_ssl import lease; lease.RENEW, lease.LAPSE, lease.SETTLE = 0.2, 3.0, 0.5\n'


@pytest.fixture
def path(tmp_path, monkeypatch) -> epath.Path:
    monkeypatch.setattr(lease, 'RENEW', 0.1)
    monkeypatch.setattr(lease, 'LAPSE', 60.0)  # a holder that is late ends its process
    monkeypatch.setattr(lease, 'SETTLE', 0.3)
    return epath.Path(tmp_path / 'in_use')


def test_held_and_given_back(path):
    with lease.lease(path, 'busy'):
        first = path.read_text()
        deadline = time.monotonic() + 60
        while path.read_text() == first:
            assert time.monotonic() < deadline, 'never renewed'
            time.sleep(0.02)
    assert not path.exists()


def test_refused_while_the_holder_lives(path):
    with lease.lease(path, 'run is busy'):
        with pytest.raises(InputError, match=r'run is busy \(.* process \d+\)'):
            lease.lease(path, 'run is busy').__enter__()
        assert path.exists()


def test_taken_over_from_the_dead(path, monkeypatch):
    monkeypatch.setattr(lease, 'LAPSE', 2.0)
    path.write_text('host-7 process 12 0123abcd.4')
    with lease.lease(path, 'busy'):
        assert 'host-7' not in path.read_text()
    assert not path.exists()


def test_of_two_at_one_moment_one_gives_in(path):
    """The other writes between our writing and our second look."""
    other = threading.Timer(0.1, path.write_text, ['host-8 process 3 ffff'])
    other.start()
    with pytest.raises(InputError, match='busy'):
        lease.lease(path, 'busy').__enter__()
    other.join()
    assert path.read_text() == 'host-8 process 3 ffff'


def test_one_that_slept_too_long_ends(tmp_path):
    program = f"""
{QUICK}
import time
from etils import epath
with lease.lease(epath.Path({str(tmp_path / 'in_use')!r}), 'busy'):
    print('holds', flush=True)
    time.sleep(120)
"""
    process = subprocess.Popen([sys.executable, '-c', program], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout.readline() == 'holds\n'
    (tmp_path / 'in_use').write_text('host-9 process 1 eeee')
    _, error = process.communicate(timeout=100)
    assert process.returncode == 75 and 'taken by host-9' in error


def test_folders_of_a_bucket_are_locked_so(path, gs):
    with processes.alone('gs://bucket/run', 'busy'):
        assert (gs / 'bucket/run/in_use').exists()
        with pytest.raises(InputError, match='busy'), processes.alone('gs://bucket/run', 'busy'):
            pass
    assert not (gs / 'bucket/run/in_use').exists()
