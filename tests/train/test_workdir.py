import json
import subprocess
import sys

import pytest
from etils import epath

from big_ssl.errors import InputError
from big_ssl.train import workdir as workdir_lib

CONFIG = {'seed': 0, 'crop': {'area': (0.08, 1.0)}, 'init_from': None, 'name': 'Äpfel'}


def begun(path):
    """A folder in which a run with CONFIG has begun."""
    folder = workdir_lib.claim(str(path), CONFIG)
    workdir_lib.begin(folder, CONFIG)
    return folder


def test_claims_a_new_folder_and_finds_it_again(tmp_path):
    path = tmp_path / 'runs' / 'a'
    folder = workdir_lib.claim(str(path), CONFIG)
    assert list(folder.iterdir()) == []  # another config is welcome until the run begins
    begun(path)
    stored = json.loads((folder / 'config.json').read_text())
    assert stored == {**CONFIG, 'crop': {'area': [0.08, 1.0]}}
    content = (folder / 'config.json').read_bytes()
    assert begun(path) == folder
    assert (folder / 'config.json').read_bytes() == content
    assert [file.name for file in folder.iterdir()] == ['config.json']


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'seed': 1}, r'seed=1 \(0 there\)'),
        ({'crop': {'area': (0.1, 1.0)}}, r'crop\.area='),
        ({'init_from': 'runs/b'}, 'init_from=runs/b'),
        ({'new': 1}, 'new=1'),
        ({'crop': 3}, 'crop=3'),
    ],
)
def test_another_config_is_an_input_error_that_names_the_key(tmp_path, change, named):
    begun(tmp_path)
    with pytest.raises(InputError, match=f'another config: {named}.*choose another --workdir'):
        workdir_lib.claim(str(tmp_path), {**CONFIG, **change})
    assert json.loads((tmp_path / 'config.json').read_text())['seed'] == 0


def test_how_it_is_computed_may_change(tmp_path):
    config = {**CONFIG, 'compute': {'remat': 'none'}}
    workdir_lib.begin(workdir_lib.claim(str(tmp_path), config), config)
    for other in ({**CONFIG, 'compute': {'remat': 'blocks', 'scan_blocks': True}}, CONFIG):
        assert workdir_lib.claim(str(tmp_path), other) == tmp_path
    with pytest.raises(InputError, match='seed=1'):
        workdir_lib.claim(str(tmp_path), {**config, 'seed': 1})


def test_a_folder_of_the_same_config_is_not_written_to(tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps(CONFIG))
    before = (tmp_path / 'config.json').read_bytes()
    begun(tmp_path)
    assert (tmp_path / 'config.json').read_bytes() == before


def test_many_differences_are_counted(tmp_path):
    workdir_lib.begin(epath.Path(tmp_path), {f'key{i}': 0 for i in range(9)})
    with pytest.raises(InputError, match='and 6 more'):
        workdir_lib.claim(str(tmp_path), {f'key{i}': 1 for i in range(9)})


def test_a_file_in_the_way(tmp_path):
    (tmp_path / 'a').write_text('here')
    for path in ('a', 'a/b'):
        with pytest.raises(InputError, match='cannot be used as a workdir'):
            workdir_lib.claim(str(tmp_path / path), CONFIG)
    assert (tmp_path / 'a').read_text() == 'here'


@pytest.mark.parametrize('content', [b'', b'{"seed": 0', b'\xff\xfe'])
def test_a_config_that_cannot_be_read(tmp_path, content):
    (tmp_path / 'config.json').write_bytes(content)
    with pytest.raises(InputError, match='config'):
        workdir_lib.claim(str(tmp_path), CONFIG)
    assert (tmp_path / 'config.json').read_bytes() == content


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr('jax.process_index', lambda: 1)
    begun(tmp_path)
    assert not (tmp_path / 'config.json').exists()


@pytest.mark.parametrize('content', ['text ä', b'\0\xff'])
def test_write_replaces(tmp_path, content):
    path = epath.Path(tmp_path) / 'file.bin'
    for _ in range(2):
        workdir_lib.write(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [file.name for file in tmp_path.iterdir()] == ['file.bin']


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path):
    """A process dies with half of the new content on disk."""
    path = tmp_path / 'result.json'
    path.write_text('old')
    program = f"""
import os, sys
from etils import epath
from big_ssl.train import workdir
write_text = type(epath.Path('/')).write_text
def half(path, text, *args, **kwargs):
    write_text(path, text[:3])
    os._exit(9)
type(epath.Path('/')).write_text = half
workdir.write(epath.Path({str(path)!r}), 'new content')
"""
    assert subprocess.run([sys.executable, '-c', program], check=False).returncode == 9
    assert path.read_text() == 'old'


def test_a_bucket_without_its_package_is_refused(gs, monkeypatch):
    monkeypatch.setitem(sys.modules, 'google.cloud.storage', None)
    with pytest.raises(InputError, match=r"gs://bucket/run: needs pip install 'big_ssl\[gcs\]'"):
        workdir_lib.claim('gs://bucket/run', CONFIG)
    assert not list(gs.iterdir())
