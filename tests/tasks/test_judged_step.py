import json

import pytest

from big_ssl.errors import InputError
from big_ssl.tasks import judged_step

RESULT = {'test/top1': 0.5, 'trained_on/step': 12}
OTHER = 'the checkpoint of step 9 was not judged; the run judged step 12'
UNKNOWN = 'whether step 9 was judged is not known: result.json names no step'


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / 'checkpoints/9').mkdir(parents=True)
    (tmp_path / 'result.json').write_text(json.dumps(RESULT))
    return tmp_path


@pytest.mark.parametrize('inside', ['', 'checkpoints/12', 'checkpoints/12/'])
def test_the_step_that_was_judged_has_the_result(workdir, inside):
    assert judged_step.of_weights(f'{workdir}/{inside}', 12) == (RESULT, '', 12)


@pytest.mark.parametrize('inside', ['', 'checkpoints/9'])
def test_another_step_has_none(workdir, inside):
    assert judged_step.of_weights(f'{workdir}/{inside}', 9) == ({}, OTHER, 12)


def test_a_result_without_a_step_is_nobodys(workdir):
    (workdir / 'result.json').write_text('{"test/top1": 0.5}')
    assert judged_step.of_weights(str(workdir), 9) == ({}, UNKNOWN, None)


def test_a_run_that_has_not_ended_says_nothing(workdir):
    (workdir / 'result.json').unlink()
    assert judged_step.of_weights(str(workdir / 'checkpoints/9'), 9) == ({}, '', None)


def test_a_result_that_cannot_be_read_is_one_line(workdir):
    (workdir / 'result.json').write_text('{"test/top1": ')
    with pytest.raises(InputError, match=r'/result\.json: cannot be read: '):
        judged_step.of_weights(str(workdir / 'checkpoints/9'), 9)
