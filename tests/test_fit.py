"""The door of `big_ssl.fit`, in this process, for the eight devices of the tests."""

import json
import re

import jax
import pytest

from big_ssl import fit
from big_ssl.models import resnet

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')
SMALL = ('--config.image_size=16', '--config.batch_size=16', '--config.model.stem=small_images')


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1, 1))


def answer(capsys, *arguments, config='derm_simclr'):
    code = fit.main(['fit', f'--config=configs/{config}.py:demo', *SMALL, *arguments])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.long
def test_it_answers_and_leaves_the_figures(tmp_path, capsys):
    figures = f'--json={tmp_path / "figures.json"}'
    code, out, err = answer(capsys, '--topology=local', '--config.chunks=2', figures)
    assert code == 0 and 'the training step for 8 devices' in err and 'batch of 16' in err
    for text in (
        r'ResNet-18 \(0.25x\) at 16 px, contrastive, batch 16 \(2 a device, 2 views\)',
        r'memory a device +0\.\d\d of \d+\.\d\d GiB: FITS',
        r'all-gather +1 a step',
        r'largest batch +\d+ that fits',
    ):
        assert re.search(text, out), text
    figures = json.loads((tmp_path / 'figures.json').read_text())
    asked, largest = figures['asked'], figures['largest']
    assert asked['batch_size'] == 16 and asked['fits'] and largest['fits']
    assert largest['batch_size'] > 1000 and largest['batch_size'] % (8 * 2) == 0
    assert largest['needed'] <= largest['available']
    assert asked['needed'] == sum(asked['memory'].values())
    assert figures['config']['image_size'] == 16 and figures['devices'] == len(jax.devices())


def test_finetuning_without_a_search(capsys):
    code, out, _ = answer(capsys, '--nosearch', '--classes=3', config='derm_finetune')
    assert code == 0 and 'supervised, batch 16 (2 a device)' in out and 'largest' not in out


def test_more_than_there_is(capsys, monkeypatch):
    monkeypatch.setattr('big_ssl.planning.estimate.available_memory', lambda _: 10_000)
    code, out, _ = answer(capsys)
    assert code == 0 and 'DOES NOT FIT' in out and 'none was found to fit' in out
    assert '--config.compute.remat=blocks' in out


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--topology=v5e-17',), 'error: --topology=v5e-17: v5e has no slice of 17'),
        (('--topolgy=v5e-16',), 'error: unknown flag --topolgy, did you mean topology?'),
        (('--config.batch_size=12',), 'batch_size=12 does not divide over 8 devices'),
        (('--config.task=predict',), 'error: config: task=predict trains nothing'),
        (('--config.compute.remat=all',), 'compute.remat=all is not one of none, norms, blocks'),
        (('--nosearch', '--json=/nowhere/at/all.json'), 'error: --json=/nowhere/at/all.json: No'),
        (('--classes=0',), 'error: flag --classes=0'),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, message):
    code, _, err = answer(capsys, *arguments)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert message in last and 'Traceback' not in err


def test_help(capsys):
    assert fit.main(['fit', '--help']) == 0
    out = capsys.readouterr().out
    for name in ('--topology', '--json', '--search', '--classes', '--images', 'v5e-16', 'libtpu'):
        assert name in out
