"""The benchmark's door: parts, turns, batches that do not fit, what a stopped run leaves."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu, measure, pictures, settings
from benchmarks.exhausted import does_not_fit
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


def test_images_alone_may_have_a_smaller_batch(asked, monkeypatch, tmp_path, capsys):
    """They lie on the device too: what was measured before them stays."""
    monkeypatch.setattr(gpu, 'first_try', lambda network, memory: 8)
    asked.codes = lambda part, batch: 4 * (part == 'images' and batch > 2)
    pictures.draw_images(tmp_path / 'images', 2, 16)
    flags = ['--networks=r50', '--parts=step,images', f'--images={tmp_path / "images"}']
    assert gpu.main([*flags, f'--json={tmp_path / "found.json"}']) == 0
    assert asked.parts == [('step', 8), ('images', 8), ('images', 4), ('images', 2)]
    found = json.loads((tmp_path / 'found.json').read_text())['networks']['r50']['figures']
    assert found['step']['images_per_second']['median'] == 4
    assert found['images']['images_per_second']['median'] == 1
    out = capsys.readouterr().out
    assert 'images, batch 2: input wait 0.50% (target 1%: met)\n' in out


def test_what_drawing_costs(asked, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(RESULTS['images'], 'step_seconds', [2.5])
    assert gpu.main(['--networks=r50', '--parts=step,images', '--batch=8']) == 0
    out = capsys.readouterr().out
    assert 'drawing and cropping 20.00%' in out and 'images: noise' in out


def test_pytorch_that_is_not_compiled_is_not_judged(asked, monkeypatch, capsys):
    monkeypatch.setitem(RESULTS['rival'], 'compiled_by', 'eager, torch.compile failed')
    assert gpu.main(['--networks=r50', '--parts=network,rival', '--batch=8']) == 0
    assert '1.333 times PyTorch by eager, torch.compile failed\n' in capsys.readouterr().out


def test_a_program_that_computes_twice_says_so(asked, monkeypatch, capsys):
    monkeypatch.setitem(RESULTS['network'], 'rematerialised', 7)
    assert gpu.main(['--networks=r50', '--parts=network,step', '--batch=8']) == 0
    assert capsys.readouterr().out.count('XLA computes 7 operations twice') == 1


def test_a_network_is_printed_before_the_next_one_starts(asked, capsys):
    def codes(part, batch):
        if asked.parts.count(('step', 8)) == 2:
            raise KeyboardInterrupt
        return 0

    asked.codes = codes
    with pytest.raises(KeyboardInterrupt):
        gpu.main(['--networks=r50,r50x4', '--parts=step', '--batch=8'])
    assert 'r50, 224 px, batch 8\n' in capsys.readouterr().out


def test_the_environment_of_a_part(asked, monkeypatch):
    monkeypatch.delenv('JAX_PLATFORMS', raising=False)
    assert gpu.main(['--networks=r50', '--parts=step,trace', '--batch=8']) == 0
    of_step, of_trace = asked.environments
    assert 'command_buffer' in of_trace['XLA_FLAGS'], 'else kernels have no names'
    assert 'command_buffer' not in of_step['XLA_FLAGS']
    assert of_step['JAX_PLATFORMS'] == 'cuda', 'JAX would go on with the CPU'
    assert float(of_step['XLA_CLIENT_MEM_FRACTION']) > 0.9
    monkeypatch.setenv('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.5')
    assert gpu.main(['--networks=r50', '--parts=step', '--batch=8']) == 0
    assert 'XLA_CLIENT_MEM_FRACTION' not in asked.environments[-1], 'XLA refuses both'


def test_first_try_is_one_that_cudnn_can_index():
    r50 = settings.NETWORKS['r50']
    assert settings.first_try(r50, 140e9) == settings.first_try(r50, 1e15) == 1024
    assert settings.first_try(r50, 70e9) == 512


def test_imports_on_a_machine_with_less():
    """Of what pip brings for big_ssl what such machines have anyway, ml_collections, and clu."""
    lacking = ['tensorflow', 'tensorflow_datasets', 'array_record', 'zstandard', 'pydicom']
    code = (
        f'import sys; sys.modules |= dict.fromkeys({lacking})\n'
        'import benchmarks.gpu, benchmarks.measure, benchmarks.parts\n'
        'import big_ssl.tasks.training'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_pytorch_without_the_gpu_that_is_there(monkeypatch):
    peers.torch()
    monkeypatch.setattr(measure, 'graphics_card', lambda: {'name': 'a card'})
    setting = settings.Setting('toy', 2, 0.1, 1, '', (), 'eager', 8, 8)
    with pytest.raises(RuntimeError, match='does not see'):
        measure.rival(setting)


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
        (RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'), True),
        (RuntimeError('Unable to find an engine to execute this computation'), True),
        (ValueError('shapes do not match'), False),
    ],
)
def test_running_out_of_memory_is_told_apart(error, answer):
    assert does_not_fit(error) == answer


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
