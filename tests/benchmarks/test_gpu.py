"""The benchmark's door: parts, turns, batches that do not fit, what a stopped run leaves."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu, measure, pictures
from tests import helpers, peers

ABOUT = {'device': 'a card', 'versions': {'jax': '1'}, 'graphics_card': {}}
STEP = {'peak_bytes': None, 'flops': 10, 'bytes': 10}
RESULTS = {
    'ceilings': {'flops_per_second': 1e3, 'bytes_per_second': 1e3},
    'network': {'step_seconds': [1.0, 2.0], **STEP},
    'rival': {'step_seconds': [2.0], 'peak_bytes': None, 'compiled_by': 'inductor'},
    'step': {'step_seconds': [2.0], **STEP, 'augmentation_seconds': [0.1], 'loss_seconds': [0.1],
             'optimiser_seconds': [0.1]},
    'trace': {'kernel_seconds': {'convolution': 1.0}, 'traced_step_seconds': 2.0},
    'images': {'step_seconds': [2.0], 'input_wait_seconds': [0.01], **STEP},
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """What processes were asked for; they answer by RESULTS, and what `codes` gives."""
    seen = SimpleNamespace(parts=[], environments=[], codes=lambda part, batch: 0)

    def run(command, env, **_):
        part, setting, result = command[-3:]
        batch = json.loads(Path(setting).read_text())['batch']
        seen.parts.append((part, batch))
        seen.environments.append(env)
        code = seen.codes(part, batch)
        if code == 0:
            Path(result).write_text(json.dumps(RESULTS[part] | ABOUT))
        return SimpleNamespace(returncode=code)

    card = {'name': 'a card', 'memory.total': '1000'}
    monkeypatch.setattr(gpu, 'graphics_card', lambda: dict(card))
    monkeypatch.setattr(subprocess, 'run', run)
    return seen


def test_networks_take_turns_and_their_repeats_are_kept(asked, tmp_path, capsys):
    file = tmp_path / 'found.json'
    flags = ['--networks=r50', '--parts=rival,network,step', '--batch=8', f'--json={file}']
    assert gpu.main(flags) == 0
    order = ['network', 'rival', 'step', 'network', 'rival']
    assert asked.parts == [(part, 8) for part in order]
    found = json.loads(file.read_text())['networks']['r50']
    assert found['parts']['network']['step_seconds'] == [1.0, 2.0, 1.0, 2.0]
    assert found['figures']['times_pytorch'] == pytest.approx(2 / 1.5)
    assert '1.333 times PyTorch by inductor (target 1.15: met)' in capsys.readouterr().out


def test_a_batch_that_does_not_fit_is_halved_for_both(asked, monkeypatch):
    monkeypatch.setattr(gpu, 'first_try', lambda network, memory: 8)
    asked.codes = lambda part, batch: measure.DOES_NOT_FIT if (part, batch) == ('rival', 8) else 0
    assert gpu.main(['--networks=r50', '--parts=network,rival', '--rounds=1']) == 0
    assert asked.parts == [('network', 8), ('rival', 8), ('network', 4), ('rival', 4)]


def test_a_given_batch_stays(asked, capsys):
    asked.codes = lambda part, batch: measure.DOES_NOT_FIT if part == 'rival' else 0
    assert gpu.main(['--networks=r50', '--parts=network,rival', '--batch=8']) == 1
    assert asked.parts == [('network', 8), ('rival', 8), ('network', 8)]
    assert 'failed: rival: 8 examples do not fit' in capsys.readouterr().out


def test_what_was_measured_before_a_stop_is_there(asked, tmp_path):
    def codes(part, batch):
        if part == 'rival':
            raise KeyboardInterrupt
        return 0

    asked.codes, file = codes, tmp_path / 'found.json'
    with pytest.raises(KeyboardInterrupt):
        gpu.main(
            ['--networks=r50', '--batch=8', '--parts=ceilings,network,rival', f'--json={file}']
        )
    found = json.loads(file.read_text())
    assert found['ceilings']['flops_per_second'] == 1e3
    assert list(found['networks']['r50']['parts']) == ['network']


def test_kernels_have_names_in_the_trace_alone(asked):
    assert gpu.main(['--networks=r50', '--parts=step,trace', '--batch=8']) == 0
    of_step, of_trace = (each['XLA_FLAGS'] for each in asked.environments)
    assert 'command_buffer' in of_trace and 'command_buffer' not in of_step
    assert asked.environments[0]['XLA_PYTHON_CLIENT_PREALLOCATE'] == 'false'


@pytest.mark.parametrize('flags', [['--parts=speed'], ['--networks=vgg'], ['--batch=many']])
def test_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu.main(flags)
    assert stopped.value.code == 2
    assert flags[0].split('=')[1] in capsys.readouterr().err


def test_a_folder_of_images_becomes_a_table(tmp_path):
    folder = tmp_path / 'images'
    pictures.draw_images(folder, 3, 16)
    (folder / 'notes.txt').write_text('')
    table = pictures.table_of(folder, tmp_path / 'table.csv').read_text().splitlines()
    assert table[0] == 'image_path,split' and len(table) == 4
    with pytest.raises(FileNotFoundError):
        pictures.table_of(tmp_path / 'empty', tmp_path / 'table.csv')


@pytest.mark.parametrize(
    'error, answer',
    [
        (RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate'), True),
        (RuntimeError('CUDA out of memory. Tried to allocate 2 GiB'), True),
        (ValueError('shapes do not match'), False),
    ],
)
def test_running_out_of_memory_is_told_apart(error, answer):
    assert measure.does_not_fit(error) == answer


def test_without_nvidia_smi_nothing_is_known(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert measure.graphics_card() == {}


@pytest.mark.long
def test_a_toy_from_end_to_end(tmp_path, capfd, monkeypatch):
    """Every part, on real files, by the commands of a GPU."""
    peers.torch()
    monkeypatch.setenv('XLA_FLAGS', '')  # one device
    (tmp_path / 'images').mkdir()
    for i in range(6):
        helpers.save(tmp_path / 'images' / f'{i}.png', helpers.smooth(40, 56, seed=i))
    file = tmp_path / 'found.json'
    flags = ['--toy', f'--images={tmp_path / "images"}', f'--json={file}', '--seconds=0.3']
    assert gpu.main(flags) == 0
    found = json.loads(file.read_text())
    toy = found['networks']['toy']
    assert list(toy['parts']) == ['network', 'rival', 'step', 'trace', 'images']
    kinds = toy['figures']['traced']
    assert {'convolution', 'normalisation', 'augmentation', 'loss', 'optimiser'} <= set(kinds)
    assert kinds['convolution'] > 0.1 and kinds.get('not attributed', 0) < 0.05
    assert all(np.isfinite(toy['parts'][p]['loss']) for p in ('network', 'rival', 'step', 'images'))
    whole, network = toy['parts']['step'], toy['parts']['network']
    assert whole['flops'] > network['flops'] > 0
    out = capfd.readouterr().out
    assert 'times PyTorch by aot_eager' in out and 'input wait' in out and 'target' not in out
