import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from etils import epath
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from big_ssl.errors import InputError
from big_ssl.studies import report, results, search, tables
from big_ssl.studies.run import DONE
from tests.report import browser
from tests.studies import made_up
from tests.studies.made_up import SETTINGS, STRENGTHS
from tests.studies.test_design import ROOT, load, runs_of

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


def brier(table):
    """Brier 1950, equation 2."""
    return sum(brier_score_loss(table['label'] == name, table[name]) for name in made_up.CLASSES)


def test_calibration_is_the_mean_over_seeds(study, known):
    judged = [read(study[3], 'micle', seed) for seed in (0, 1, 2)]
    rows = known.calibration.query('method == "micle" and split == "test"')
    for metric, function in {'calibration_error': ece, 'brier_score': brier}.items():
        values = [function(table) for table in judged]
        (row,) = rows[rows['metric'] == metric].to_dict('records')
        assert row['value'] == pytest.approx(np.mean(values))
        assert row['sd'] == pytest.approx(np.std(values, ddof=1)) and row['class'] == ''


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
    aucs, errors, briers = [], [], []
    for seed in (0, 1):
        table = read(folder, 'simclr', seed)
        labels = table['label'].fillna('')
        certain = ~labels.str.contains('acne?', regex=False)
        has = labels.str.contains('acne')[certain].to_numpy(float)
        scores = table['acne'][certain].to_numpy()
        bins = np.ceil(scores * 15)
        gaps = [abs((scores - has)[bins == number].sum()) for number in set(bins)]
        errors.append(sum(gaps) / len(has))
        briers.append(brier_score_loss(has, scores))
        eczema = roc_auc_score(labels.str.contains('eczema'), table['eczema'])
        aucs.append((roc_auc_score(has, scores) + eczema) / 2)  # rare has too few
    assert result['simclr/test/auc_macro'] == pytest.approx(np.mean(aucs))
    assert result['simclr/test/calibration_error/acne'] == pytest.approx(np.mean(errors))
    assert result['simclr/test/brier_score/acne'] == pytest.approx(np.mean(briers))
    assert result['simclr/test/brier_score/acne/sd_pretraining'] == pytest.approx(
        np.std(briers, ddof=1)
    )
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
    expected = np.mean([brier(read(folder, 'micle', seed)) for seed in (0, 1, 2)])
    assert result['micle/test/brier_score'] == pytest.approx(expected)
    after = text.split('By class: test</h2>')[1].split('Calibration, mean over seeds</caption>')[1]
    assert f'{expected:.3f}' in after.split('</table>')[0]
    assert 'test, 78 cases: means' in text and 'elsewhere, 72 images: means' in text
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
