"""Programs in processes of their own: what they were told, and what the system says of them."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from big_ssl import heap

pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='large pages are asked for on Linux'
)

PROGRAM = """
import os, sys
from big_ssl import heap
print(os.getpid(), *sys.argv[1:])
heap.use_large_pages()
held = b'x' * 2**26
huge = [line for line in open('/proc/self/smaps_rollup') if line.startswith('AnonHugePages')]
print(os.environ['GLIBC_TUNABLES'], huge[0].split()[1])
"""


def run(*command, **more):
    environment = {name: os.environ[name] for name in os.environ if name != 'GLIBC_TUNABLES'}
    return subprocess.run(
        [sys.executable, *command],
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_same_process_begins_anew_with_its_arguments():
    *begun, end = run('-c', PROGRAM, 'one', 'two words').stdout.splitlines()
    assert len(begun) == 2 and begun[0] == begun[1]
    assert begun[0].split(' ', 1)[1] == 'one two words'
    tunables, kilobytes = end.split()
    assert tunables == 'glibc.malloc.hugetlb=1'
    if '[never]' not in Path('/sys/kernel/mm/transparent_hugepage/enabled').read_text():
        assert int(kilobytes) > 2**15


def test_who_has_said_what_glibc_is_to_do_is_left_alone():
    lines = run('-c', PROGRAM, GLIBC_TUNABLES='glibc.malloc.check=0').stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith('glibc.malloc.check=0 ')


def test_training_has_large_pages(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("import os\nraise ValueError(os.environ['GLIBC_TUNABLES'])\n")
    ended = run('-m', 'big_ssl.main', f'--config={config}', '--workdir=unused')
    assert ended.returncode == 2
    assert 'glibc.malloc.hugetlb=1' in ended.stderr


def test_imports_are_not_searched_for_garbage_and_what_follows_is():
    found = []
    gc.callbacks.append(lambda phase, info: found.append(phase))
    try:
        with heap.not_searched():
            kept = [[] for _ in range(100_000)]
        assert not found and gc.isenabled() and gc.get_freeze_count() >= len(kept)
        del kept
        lost: list = [[] for _ in range(100_000)]
        lost.append(lost)
        assert found
    finally:
        gc.callbacks.pop()
        gc.unfreeze()


def test_a_search_that_was_off_stays_off():
    gc.disable()
    try:
        with heap.not_searched():
            pass
        assert not gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()
