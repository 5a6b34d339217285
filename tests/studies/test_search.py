"""Learning rates of a study: which pair each method is judged with."""

import json

import numpy as np
import pytest
from etils import epath

from big_ssl.studies import report, results, search
from big_ssl.studies.run import DONE
from tests.studies import made_up
from tests.studies.made_up import RATES
from tests.studies.test_design import load, runs_of

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


def test_search(tmp_path):
    settings = {'learning_rates': (0.1, 0.01), 'weight_decays': (0.0, 0.001)}
    config, runs = load('finetune_search', '', **settings), runs_of('finetune_search', **settings)
    folder = epath.Path(tmp_path)
    for i, run in enumerate(runs[:-1]):
        made_up.finish(run, folder, strength=float(i))
    states = {run.name: DONE for run in runs} | {runs[-1].name: 'diverged'}
    found = search.trials(runs, states, folder)
    assert found['value'].tolist()[:3] == [0.0, 0.1, 0.2] and np.isnan(found['value'].iloc[3])
    assert found['diverged'].tolist() == [False, False, False, True]
    assert found['picked'].tolist() == [False, False, True, False]
    # figures on validation would flatter what was picked there
    assert results.read_judged(config, runs, states, folder) == {}


def test_each_method_is_judged_with_its_best_rate_on_validation(searched):
    config, runs, states, folder = searched
    tried = search.trials(runs, states, folder)
    means = {
        ('random', 0.3): 0.45, ('random', 0.1): 0.5, ('random', 0.03): 0.4,
        ('micle', 0.3): 0.1, ('micle', 0.1): 0.2, ('micle', 0.03): 0.35,
    }  # fmt: skip
    for row in tried.itertuples():
        assert row.value == pytest.approx(means[row.method, row.learning_rate])
    groups = results.read_judged(config, search.without_unpicked(runs, tried), states, folder)
    for some in (groups['test'], groups['elsewhere']):
        names = [model.run.name for group in some for model in group.models]
        assert all('lr0.1' in name if '/random/' in name else 'lr0.03' in name for name in names)
        assert len(names) == 4


def test_a_pair_that_is_not_done_is_not_picked(searched):
    _, runs, states, folder = searched
    waiting = next(name for name in states if name.startswith('finetune/micle/lr0.03'))
    tried = search.trials(runs, states | {waiting: 'waiting'}, folder)
    picked = tried[tried['picked']]
    assert dict(zip(picked['method'], picked['learning_rate'])) == {'random': 0.1, 'micle': 0.1}


def test_the_report_of_a_comparison_with_a_search(searched):
    config, runs, _, folder = searched
    report.write(config, runs, folder, ['--workdir=S'])
    result = json.loads((folder / 'result.json').read_text())
    assert result['search/micle/learning_rate'] == 0.03
    assert result['search/random/lr0.3/wd0'] == pytest.approx(0.45)
    assert result['micle/test/auc_macro/runs'] == 2
    text = (folder / 'report.html').read_text()
    assert 'the lowest or highest rate tried' in text  # 0.03 of MICLe
    assert {path.name for path in (folder / 'figures').iterdir()} >= {
        'search_micle.csv', 'search_random.png'
    }  # fmt: skip


def test_a_method_without_a_pick_is_named(searched, caplog):
    """Each rate diverged for one seed of the baseline."""
    config, runs, _, folder = searched
    for i, rate in enumerate(RATES['learning_rates']):
        run = folder / f'runs/finetune/random/lr{rate:g}-wd0/seed{i % 2}'
        (run / 'result.json').unlink()
        (run / 'diverged.json').write_text('{}')
    report.write(config, runs, folder, ['--workdir=S'])
    assert 'random is left out: a run of each pair diverged' in caplog.text
    assert (
        'left out of all else: a run of each pair diverged' in (folder / 'report.html').read_text()
    )
    result = json.loads((folder / 'result.json').read_text())
    assert 'micle/test/auc_macro' in result and 'random/test/auc_macro' not in result
