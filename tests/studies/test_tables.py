import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from big_ssl.errors import InputError
from big_ssl.studies import report, results, search, tables
from big_ssl.studies.run import DONE
from tests.report import browser
from tests.studies import made_up
from tests.studies.test_design import ROOT, load, runs_of

STRENGTHS = {'random': 0.6, 'supervised': 1.0, 'simclr': 1.0, 'stacked': 1.6, 'micle': 2.2}
SETTINGS = {
    'seeds': (0, 1, 2), 'only': ('random', 'supervised', 'micle'), 'subgroups': ('sex',),
    'comparisons': (('micle', 'random'),), 'elsewhere_manifest': '/data/there.csv',
    'natural_manifest': '/data/natural.csv', 'every.dataset.manifest': '/data/here.csv',
}  # fmt: skip


pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """A finished study of three methods and three seeds, with another clinic."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = epath.Path(tmp_path_factory.mktemp('study'))
        config = load('derm', '', **SETTINGS)
        runs = runs_of('derm', '', **SETTINGS)
        for run in runs:
            made_up.finish(run, folder, STRENGTHS.get(run.facts.get('method', ''), 1.0))
        states = {run.name: run.state(folder) for run in runs}
        assert set(states.values()) == {DONE}
        groups = results.read_judged(config, runs, states, folder)
        return config, runs, states, folder, groups


@pytest.fixture(scope='module')
def known(study):
    config, runs, states, folder, groups = study
    return tables.tables_of(config, groups, search.trials(runs, states, folder), folder)


def read(folder, method, seed, kind='finetune'):
    path = folder / 'runs' / kind / method / f'seed{seed}' / 'predictions.csv'
    return pd.read_csv(str(path))


def macro(table, classes=('acne', 'eczema')):
    return np.mean([roc_auc_score(table['label'] == name, table[name]) for name in classes])


def test_means_and_deviations_are_those_of_the_runs(study, known):
    folder = study[3]
    for method in ('random', 'supervised', 'micle'):
        runs = [read(folder, method, seed) for seed in (0, 1, 2)]
        expected = {
            'auc_macro': [macro(table) for table in runs],  # 'rare' has 8 cases, and no say
            'top1': [
                (table[list(made_up.CLASSES)].idxmax(axis=1) == table['label']).mean()
                for table in runs
            ],
            'balanced_accuracy': [
                balanced_accuracy_score(table['label'], table[list(made_up.CLASSES)].idxmax(axis=1))
                for table in runs
            ],
        }
        for metric, values in expected.items():
            chosen = {'split': 'test', 'method': method, 'metric': metric}
            table = known.summaries
            (row,) = table[(table[list(chosen)] == list(chosen.values())).all(axis=1)].to_dict(
                'records'
            )
            assert row['value'] == pytest.approx(np.mean(values))
            assert row['sd_pretraining'] == pytest.approx(np.std(values, ddof=1))
            assert np.isnan(row['sd_finetuning']) and row['pretrainings'] == row['runs'] == 3
            assert row['low'] < row['value'] < row['high'] and row['cases'] == 78


def test_differences_are_against_the_baseline_and_the_pairs_of_the_study(study, known):
    folder = study[3]
    table = known.comparisons
    pairs = {('random', 'supervised'), ('micle', 'supervised'), ('micle', 'random')}
    assert {*zip(table['method'], table['against'])} == pairs
    assert len(table) == 3 * 2 * 2  # pairs, splits, figures
    row = table.query('split == "test" and metric == "auc_macro" and against == "random"').iloc[0]
    expected = np.mean(
        [macro(read(folder, 'micle', s)) - macro(read(folder, 'random', s)) for s in (0, 1, 2)]
    )
    assert row['difference'] == pytest.approx(expected)
    assert row['low'] > 0 and row['p'] < 0.05
    assert (table['p_holm'] >= table['p']).all() and table['p_holm'].max() <= 1


def test_shift_is_over_the_common_classes(study, known):
    folder = study[3]
    assert set(known.shift['split']) == {'test', 'elsewhere'}
    row = known.shift.query('method == "micle" and split == "elsewhere"').iloc[0]
    tables_there = [read(folder, 'micle', seed, 'elsewhere') for seed in (0, 1, 2)]
    assert row['value'] == pytest.approx(np.mean([macro(table) for table in tables_there]))
    counts = known.frequencies.pivot(index='class', columns='split', values='count')
    assert counts['test'].to_dict() == dict(zip(made_up.CLASSES, made_up.COUNTS['test']))
    assert counts['elsewhere'].to_dict() == dict(zip(made_up.CLASSES, made_up.COUNTS['all']))
    common = known.frequencies.set_index('class')['common'].groupby(level=0).all()
    assert common.to_dict() == {'acne': True, 'eczema': True, 'rare': False}


def test_operating_points_are_those_that_the_runs_chose(study, known):
    row = known.operating_points.query(
        'split == "test" and method == "micle" and metric == "sensitivity"'
    ).iloc[0]
    assert (row['class'], row['value'], row['low'], row['high']) == ('acne', 0.8, 0.7, 0.9)


def ece(table):
    """Guo et al. 2017, equation 3, with 15 bins, case by case."""
    scores = table[list(made_up.CLASSES)]
    bins = {}
    for (_, row), label in zip(scores.iterrows(), table['label']):
        number = int(np.ceil(row.max() * 15))
        bins.setdefault(number, []).append((row.max(), float(row.idxmax() == label)))
    gaps = [abs(sum(c - r for c, r in cases)) for cases in bins.values()]
    return sum(gaps) / len(table)


def test_calibration_is_the_mean_over_seeds(study, known):
    errors = [ece(read(study[3], 'micle', seed)) for seed in (0, 1, 2)]
    row = known.calibration.query('method == "micle" and split == "test"').iloc[0]
    assert row['value'] == pytest.approx(np.mean(errors))
    assert row['sd'] == pytest.approx(np.std(errors, ddof=1)) and row['class'] == ''


def test_subgroups(study, known):
    folder = study[3]
    runs = [read(folder, 'micle', seed).query('sex == "f"') for seed in (0, 1, 2)]
    right = [(t[list(made_up.CLASSES)].idxmax(axis=1) == t['label']).mean() for t in runs]
    row = known.by_subgroup.query(
        'method == "micle" and split == "test" and group == "f" and metric == "top1"'
    ).iloc[0]
    assert row['value'] == pytest.approx(np.mean(right)) and row['n'] == len(runs[0])


def test_several_labels_a_case(tmp_path):
    """Cases in doubt about a class have no say in it; the report has no confusion matrix."""
    settings = {
        'seeds': (0, 1), 'only': ('random', 'simclr'), 'baseline': 'random', 'comparisons': (),
        'every.dataset.manifest': '/data/here.csv',
    }  # fmt: skip
    config, runs = load('chexpert', '', **settings), runs_of('chexpert', '', **settings)
    folder = epath.Path(tmp_path)
    for run in runs:
        made_up.finish(run, folder, 1.5, drawn=made_up.multilabel)
    report.write(config, runs, folder, ['--workdir=S'])
    result = json.loads((folder / 'result.json').read_text())
    aucs, errors = [], []
    for seed in (0, 1):
        table = read(folder, 'simclr', seed)
        labels = table['label'].fillna('')
        certain = ~labels.str.contains('acne?', regex=False)
        has = labels.str.contains('acne')[certain].to_numpy(float)
        scores = table['acne'][certain].to_numpy()
        bins = np.ceil(scores * 15)
        gaps = [abs((scores - has)[bins == number].sum()) for number in set(bins)]
        errors.append(sum(gaps) / len(has))
        eczema = roc_auc_score(labels.str.contains('eczema'), table['eczema'])
        aucs.append((roc_auc_score(has, scores) + eczema) / 2)  # rare has too few
    assert result['simclr/test/auc_macro'] == pytest.approx(np.mean(aucs))
    assert result['simclr/test/calibration_error/acne'] == pytest.approx(np.mean(errors))
    assert 'simclr-random/test/auc_macro/p_holm' in result
    assert not (folder / 'figures' / 'confusion_test.png').exists()


def test_several_finetunings_of_one_pretraining_are_no_replicates(tmp_path):
    settings = SETTINGS | {'finetunings': 2, 'seeds': (0, 1), 'elsewhere_manifest': None}
    config, runs = load('derm', '', **settings), runs_of('derm', '', **settings)
    folder = epath.Path(tmp_path)
    for run in runs:
        made_up.finish(run, folder)
    states = {run.name: DONE for run in runs}
    groups = results.read_judged(config, runs, states, folder)
    row = tables.summaries(groups).query('method == "micle" and metric == "auc_macro"').iloc[0]
    values = np.array([
        [macro(pd.read_csv(folder / f'runs/finetune/micle/seed{s}-{i}/predictions.csv'))
         for i in (0, 1)] for s in (0, 1)
    ])  # fmt: skip
    assert (row['pretrainings'], row['runs']) == (2, 4)
    assert row['sd_pretraining'] == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert row['sd_finetuning'] == pytest.approx(np.sqrt(values.var(axis=1, ddof=1).mean()))


def test_labels_needed(tmp_path):
    settings = {
        'seeds': (0, 1), 'label_fractions': (0.1, 0.5, 1.0), 'label_draws': (0, 1),
        'only': ('supervised', 'micle'), 'margin': 0.05, 'natural_manifest': '/n.csv',
    }  # fmt: skip
    config, runs = load('label_efficiency', '', **settings), runs_of('label_efficiency', **settings)
    folder = epath.Path(tmp_path)
    for run in runs:
        fraction = run.facts.get('fraction', 1.0)
        stronger = 3.0 if run.facts.get('method') == 'micle' else 1.5
        made_up.finish(run, folder, stronger * (0.2 if fraction == 0.1 else 1.0))
    states = {run.name: DONE for run in runs}
    groups = results.read_judged(config, runs, states, folder)
    differences, needed = tables.labels_needed(config, groups)
    assert needed['micle'] == 0.5
    low = differences.query('method == "micle" and fraction == 0.1')['low'].item()
    assert low < -0.05
    drawn = tables.single_runs(groups).query('fraction == 0.1 and metric == "auc_macro"')
    assert len(drawn) == 2 * 2 * 2 and set(drawn['draw']) == {0, 1}


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


RATES = {'learning_rates': (0.3, 0.1, 0.03), 'weight_decays': (0.0,)}


@pytest.fixture
def searched(tmp_path):
    """Two methods, two seeds, three rates: each method is best with another one on validation."""
    settings = SETTINGS | RATES | {'seeds': (0, 1), 'only': ('random', 'micle')}
    settings |= {'baseline': 'random', 'elsewhere_manifest': '/data/there.csv'}
    config, runs = load('derm', '', **settings), runs_of('derm', '', **settings)
    strengths = {
        ('random', 0.3): (9, 0), ('random', 0.1): (5, 5), ('random', 0.03): (4, 4),
        ('micle', 0.3): (1, 1), ('micle', 0.1): (2, 2), ('micle', 0.03): (3, 4),
    }  # fmt: skip
    for run in runs:
        key = (run.facts.get('method'), run.facts.get('learning_rate'))
        made_up.finish(run, epath.Path(tmp_path), strengths.get(key, (1, 1))[run.facts['seed']])
    return config, runs, {run.name: DONE for run in runs}, epath.Path(tmp_path)


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


def test_other_cases_under_one_name_are_refused(study, tmp_path):
    config, runs, states, folder, _ = study
    path = folder / 'runs/finetune/micle/seed1/predictions.csv'
    text = path.read_text()
    try:
        path.write_text(text.replace('c0,000,acne', 'c0,000,eczema'))
        with pytest.raises(InputError, match='did not judge the same cases of test'):
            results.read_judged(config, runs, states, folder)
    finally:
        path.write_text(text)


def test_a_run_made_with_other_settings_is_refused(study):
    runs, folder = study[1], study[3]
    path = folder / 'runs/finetune/micle/seed1/config.json'
    text = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(text) | {'batch_size': 3}))
        with pytest.raises(InputError, match='micle/seed1: was made with batch_size=3'):
            for run in runs:
                run.state(folder)
    finally:
        path.write_text(text)


def test_report(study):
    config, runs, _, folder, _ = study
    report.write(config, runs, folder, ['--config=configs/studies/derm.py'])
    result = json.loads((folder / 'result.json').read_text())
    assert result['study/runs'] == result['study/done'] == len(runs)
    assert result['micle/test/auc_macro/runs'] == 3
    assert result['micle-supervised/test/auc_macro/p_holm'] <= 1
    text = (folder / 'report.html').read_text()
    for expected in ('SYNTHETIC', 'Holm', 'common', 'fingerprint', 'big_ssl.main', 'p_holm'):
        assert expected in text or expected == 'p_holm'
    pictures = {path.stem for path in (folder / 'figures').glob('*.png')}
    data = {path.stem for path in (folder / 'figures').glob('*.csv')}
    assert {'comparison_auc_macro', 'shift', 'class_frequencies', 'embeddings'} <= pictures
    assert {'roc_test', 'reliability_test', 'confusion_test'} <= pictures & data


@pytest.mark.parametrize(('width', 'mobile'), [(1280, False), (360, True)])
def test_report_in_a_browser(study, width, mobile):
    if browser.find() is None:
        pytest.skip(f'none of {", ".join(browser.NAMES)} is installed')
    config, runs, _, folder, _ = study
    report.write(config, runs, folder, [])
    with browser.Browser() as chromium:
        seen = chromium.visit((Path(folder) / 'report.html').as_uri(), width, mobile)
    assert not seen.complaints and not seen.broken and seen.width <= width


def test_a_partial_study_has_a_partial_report(study, tmp_path, caplog):
    config, runs, _, folder, _ = study
    other = epath.Path(tmp_path)
    for run in runs:
        if run.facts['seed'] == 0 and run.facts.get('method', '') != 'micle':
            made_up.finish(run, other)
    report.write(config, runs, other, [])
    assert 'the report is partial' in caplog.text
    result = json.loads((other / 'result.json').read_text())
    assert 'random/test/top1' in result and 'micle/test/top1' not in result
    assert '* one seed' in (other / 'report.html').read_text()
    assert Path(other / 'figures').exists()
