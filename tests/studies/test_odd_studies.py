"""Studies of unusual tables, splits and folders: a report, or one line that says why not."""

import json

import numpy as np
import pandas as pd
import pytest
from etils import epath

from big_ssl.errors import InputError
from big_ssl.studies import report, results, tables
from big_ssl.studies.run import DONE
from tests.studies import made_up
from tests.studies.made_up import STRENGTHS
from tests.studies.test_design import load, runs_of

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


def made(folder, name, change=None, **settings):
    """A study whose runs are finished, its predictions changed, and its report."""
    config, runs = load(name, '', **settings), runs_of(name, '', **settings)
    for run in runs:
        made_up.finish(run, folder, STRENGTHS.get(run.facts.get('method', ''), 1.0))
        path = run.folder(folder) / 'predictions.csv'
        if change is not None and path.exists():
            change(pd.read_csv(str(path), dtype=str), run).to_csv(str(path), index=False)
    report.write(config, runs, folder, ['--workdir=S'])
    return json.loads((folder / 'result.json').read_text())


SMALL = {
    'seeds': (0, 1), 'only': ('random', 'simclr'), 'baseline': 'random', 'comparisons': (),
    'every.dataset.manifest': '/data/here.csv',
}  # fmt: skip


def test_one_share_of_the_labels_for_all(tmp_path):
    folder = epath.Path(tmp_path)
    result = made(folder, 'derm', **SMALL, label_fractions=(0.1,), label_draws=(0, 1))
    assert result['random@0.1/test/auc_macro/runs'] == 4
    assert 'simclr-random/test/auc_macro/p_holm' in result
    text = (folder / 'report.html').read_text()
    assert 'With 0.1 of the labels.' in text and 'By class: test' in text


def test_the_baseline_is_compared_with_itself_on_the_same_pretrainings(tmp_path):
    """Pre-trainings that differ, and a draw that changes nothing: the difference is small."""
    settings = {
        'seeds': (0, 1, 2), 'label_fractions': (0.5, 1.0), 'label_draws': (0,),
        'only': ('supervised',), 'natural_manifest': '/n.csv',
    }  # fmt: skip
    config, runs = load('label_efficiency', '', **settings), runs_of('label_efficiency', **settings)
    folder = epath.Path(tmp_path)
    for run in runs:
        made_up.finish(run, folder, 0.5 + run.facts['seed'])
    groups = results.read_judged(config, runs, {run.name: DONE for run in runs}, folder)
    differences, needed = tables.labels_needed(config, groups)
    row = differences.iloc[0]
    assert row['difference'] == 0 and needed == {} and np.isnan(row['low'])  # nothing varies


def test_several_clinics_and_splits_of_them(tmp_path):
    def change(table, run):
        if run.facts['role'] == 'elsewhere':
            table['split'] = np.where(np.arange(len(table)) % 2, 'a', 'b')
            return table
        return pd.concat([table, table.assign(split='there')])

    folder = epath.Path(tmp_path)
    settings = SMALL | {'elsewhere_manifest': '/data/there.csv', 'shift': 'there'}
    result = made(folder, 'derm', change, **settings, **{'elsewhere.splits.evaluate': 'a+b'})
    for split in ('there', 'elsewhere a', 'elsewhere b'):
        assert f'random/{split}/auc_macro_common@{split}' in result
        assert f'random/test/auc_macro_common@{split}' in result
    table = pd.read_csv(folder / 'runs/elsewhere/simclr/seed0/predictions.csv')
    right = [
        (part[list(made_up.CLASSES)].idxmax(axis=1) == part['label']).mean()
        for seed in (0, 1)
        for part in [pd.read_csv(folder / f'runs/elsewhere/simclr/seed{seed}/predictions.csv')]
        for part in [part[part['split'] == 'a']]
    ]
    assert result['simclr/elsewhere a/top1'] == pytest.approx(np.mean(right)) and len(table) == 72


def test_columns_are_read_as_they_are_written(tmp_path):
    """Sites `01` and `1`, two ages in a case, and columns with names of ours or of a class."""
    ages = [f'{20 + i}' for i in range(78)]
    ages[3] = '23|70'

    def change(table, run):
        further = {'site': np.where(np.arange(78) % 2, '01', '1'), 'age': ages}
        return table.assign(**further, class_acne='0.5', manifest_eczema='x')

    groups = {'subgroups': ('site', 'age', 'eczema')}
    result = made(epath.Path(tmp_path), 'derm', change, **SMALL, **groups)
    plain = made(epath.Path(tmp_path / 'plain'), 'derm', **SMALL)
    assert result['random/test/auc_macro'] == plain['random/test/auc_macro']
    found = {key.split('@')[1].split('/')[0] for key in result if '/top1@' in key}
    bands = {'age=20-39', 'age=40-59', 'age=60-79', 'age=>=80'}
    assert found == {'site=01', 'site=1', 'eczema=x'} | bands


@pytest.mark.parametrize(
    ('settings', 'change'),
    [
        ({}, lambda table, run: table.assign(label='acne')),
        (
            {'subgroups': ('a b', 'a-b')},
            lambda t, run: t.assign(**{'a b': t['sex'], 'a-b': t['sex']}),
        ),
    ],
)
def test_odd_splits_have_a_report(tmp_path, settings, change):
    result = made(epath.Path(tmp_path), 'derm', change, **SMALL, **settings)
    assert 'random/test/top1' in result


def test_all_labels_in_doubt(tmp_path):
    config, runs = load('chexpert', '', **SMALL), runs_of('chexpert', '', **SMALL)
    folder = epath.Path(tmp_path)
    for run in runs:
        made_up.finish(run, folder, drawn=made_up.multilabel)
        path = run.folder(folder) / 'predictions.csv'
        if path.exists():
            doubtful = '|'.join(f'{name}?' for name in made_up.CLASSES)
            pd.read_csv(str(path)).assign(label=doubtful).to_csv(str(path), index=False)
    report.write(config, runs, folder, [])
    assert (folder / 'report.html').exists()


def test_fractions_without_a_frequent_class(tmp_path):
    settings = SMALL | {'label_fractions': (0.5, 1.0), 'label_draws': (0,)}
    settings |= {'finetune.total_steps': 5, 'compared': ('auc_macro',)}

    def change(table, run):
        return table.groupby('label', sort=False).head(6)

    result = made(epath.Path(tmp_path), 'derm', change, **settings)
    assert 'random/test/top1' in result and 'random/test/auc_macro' not in result


def test_a_table_that_was_changed_meanwhile(searched):
    config, runs, _, folder = searched
    path = runs[-1].folder(folder) / 'result.json'
    result = json.loads(path.read_text()) | {'trained_on/fingerprint': 'another'}
    path.write_text(json.dumps(result))
    with pytest.raises(InputError, match=r'x\.csv was changed between .*seed0 and elsewhere/micle'):
        report.write(config, runs, folder, [])


def test_files_that_are_gone_or_cut_off(searched):
    config, runs, _, folder = searched
    place = next(run for run in runs if run.facts['role'] == 'fine-tuning').folder(folder)
    (place / 'predictions.csv').rename(place / 'elsewhere.csv')
    with pytest.raises(InputError, match='predictions.csv is gone'):
        results.read_judged(config, runs, {run.name: DONE for run in runs}, folder)
    (place / 'config.json').write_text('{"seed": ')
    with pytest.raises(InputError, match='config.json: cannot be read'):
        report.write(config, runs, folder, [])


def test_weights_from_elsewhere_are_told_apart(tmp_path):
    starts = [{'finetune.init_from': f'/{name}/runs/micle'} for name in ('projA', 'projB')]
    (first, *_), (second, *_) = (runs_of('finetune_search', **start) for start in starts)
    made_up.finish(first, epath.Path(tmp_path))
    with pytest.raises(InputError, match='was made with init_from=/projA/runs/micle'):
        second.state(epath.Path(tmp_path))
