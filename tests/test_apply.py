"""Trained models applied: another clinic, unlabelled images, features, probes."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests import runs


def flags(config: str, workdir: Path, manifest: str, trained: Path | None, *more: str) -> list[str]:
    chosen = [f'--config.dataset.manifest={manifest}', *more]
    if trained is not None:
        chosen.append(f'--config.init_from={trained}')
    return [f'--config=configs/{config}.py', f'--workdir={workdir}', *chosen]


@pytest.fixture(scope='module')
def finetuned(tmp_path_factory, tiny_manifest, compile_cache) -> Path:
    workdir = tmp_path_factory.mktemp('finetuned')
    runs.run(runs.flags('derm_finetune', workdir, tiny_manifest), compile_cache)
    return workdir


@pytest.fixture(scope='module')
def other_clinic(tmp_path_factory, tiny_manifest) -> tuple[str, str]:
    """The test cases under other names, one of them of a class that the model does not know."""
    folder = tmp_path_factory.mktemp('clinic')
    table = pd.read_csv(tiny_manifest, dtype=str)
    table = table[table['split'] == 'test'].drop(columns='split')
    table['image_path'] = [str(Path(tiny_manifest).parent / name) for name in table['image_path']]
    table['label'] = table['label'].map({'a': 'Alpha', 'b': 'Beta'})
    last = table['case_id'] == table['case_id'].iloc[-1]
    table.loc[last, 'label'] = 'Gamma'
    table['sex'] = np.where(table['patient_id'].str[-1].isin(['4']), 'f', 'm')
    table.to_csv(folder / 'table.csv', index=False)
    (folder / 'map.csv').write_text('label,class\nalpha,a\nbeta,b\n')
    return str(folder / 'table.csv'), str(folder / 'map.csv')


def test_another_clinic(finetuned, other_clinic, compile_cache, tmp_path):
    """Nothing but the map is said: network, size and thresholds come from the trained run."""
    table, names = other_clinic
    more = [f'--config.labels.map={names}', '--config.labels.other=ignore']
    output = runs.run(flags('shift_evaluate', tmp_path, table, finetuned, *more), compile_cache)
    assert 'image_size=16' in output and 'Gamma (2)' in output
    here, there = runs.result(finetuned), runs.result(tmp_path)
    count = pd.read_csv(table)['case_id'].nunique() - 1
    predictions = pd.read_csv(tmp_path / 'predictions.csv')
    assert predictions.equals(pd.read_parquet(tmp_path / 'predictions.parquet').replace('', np.nan))
    assert there['all/n_cases'] == len(predictions) == count
    known = pd.read_csv(finetuned / 'predictions.csv')
    both = predictions.merge(known[known['split'] == 'test'], on='case_id')
    assert len(both) == len(predictions)
    np.testing.assert_allclose(both['a_x'], both['a_y'], atol=1e-6)
    auc = roc_auc_score(predictions['label'] == 'b', predictions['b'])
    assert there['all/auc/b'] == pytest.approx(auc)
    assert here['val/threshold_at_90_specificity/a'] == there['val/threshold_at_90_specificity/a']
    assert there['trained_on/init_from'] == 'random initialisation'


@pytest.mark.parametrize('which', ['judged', 'other'])
def test_thresholds_are_those_of_the_step_that_was_judged(
    finetuned, tiny_manifest, compile_cache, tmp_path, which
):
    """Of a checkpoint by its number: the one that chose them has them, another has none."""
    here = runs.result(finetuned)
    judged = here['trained_on/step']
    other = min({int(path.name) for path in (finetuned / 'checkpoints').iterdir()} - {judged})
    step = judged if which == 'judged' else other
    checkpoint = finetuned / f'checkpoints/{step}'
    output = runs.run(flags('shift_evaluate', tmp_path, tiny_manifest, checkpoint), compile_cache)
    there = runs.result(tmp_path)
    assert there['trained_on/step'] == step
    said = [line for line in output.splitlines() if 'no thresholds from validation' in line]
    if which == 'judged':
        table = pd.read_csv(tmp_path / 'predictions.csv').query('label == "b"')
        hit = (table['b'] >= here['val/threshold_at_90_specificity/b']).mean()
        assert there['all/sensitivity_at_val_threshold/b'] == pytest.approx(hit)
        assert not said
    else:
        (line,) = said
        assert f'the checkpoint of step {other} was not judged; the run judged step' in line
        assert 'all/auc/b' in there and not [name for name in there if 'threshold' in name]


def test_subgroups(finetuned, other_clinic, compile_cache, tmp_path):
    table, names = other_clinic
    more = [
        f'--config.labels.map={names}', '--config.labels.other=ignore',
        "--config.subgroups=('sex',)",
    ]  # fmt: skip
    image_by_image = '--config.aggregate=none'
    arguments = flags('shift_evaluate', tmp_path, table, finetuned, *more, image_by_image)
    runs.run(arguments, compile_cache)
    result = runs.result(tmp_path)
    predictions = pd.read_csv(tmp_path / 'predictions.csv')
    assert len(predictions) == (pd.read_csv(table)['label'] != 'Gamma').sum()
    assert result['task/unit'] == 'images'
    assert 'judged one by one' in (tmp_path / 'report.html').read_text()
    for sex in ('f', 'm'):
        group = predictions[predictions['sex'] == sex]
        right = (group[['a', 'b']].idxmax(axis=1) == group['label']).mean()
        assert result[f'all/top1@sex={sex}'] == pytest.approx(right)
        assert result[f'all/top1@sex={sex}/n'] == len(group)
    more[-1] = "--config.subgroups=('size',)"
    arguments = flags('shift_evaluate', tmp_path / 'wrong', table, finetuned, *more)
    assert "no column 'size'" in runs.run(arguments, compile_cache, 2)


def test_unknown_names_stop_it(finetuned, other_clinic, compile_cache, tmp_path):
    table, names = other_clinic
    output = runs.run(flags('shift_evaluate', tmp_path, table, finetuned), compile_cache, 2)
    assert "row 2: label 'Alpha' is none of the classes (a, b)" in output
    more = f'--config.labels.map={names}'
    output = runs.run(flags('shift_evaluate', tmp_path, table, finetuned, more), compile_cache, 2)
    assert "label 'Gamma' is none of the classes" in output
    assert not (tmp_path / 'config.json').exists()


@pytest.mark.parametrize('aggregate', ['probabilities', 'none'])
def test_predictions_without_labels(finetuned, tiny_manifest, compile_cache, tmp_path, aggregate):
    table = pd.read_csv(tiny_manifest, dtype=str)
    table['image_path'] = [str(Path(tiny_manifest).parent / name) for name in table['image_path']]
    test = table['split'] == 'test'
    table = table[test].drop(columns=['label', 'split'])
    table.to_csv(tmp_path / 'new.csv', index=False, quoting=csv.QUOTE_ALL)
    more = f'--config.aggregate={aggregate}'
    arguments = flags('predict', tmp_path / 'out', str(tmp_path / 'new.csv'), finetuned, more)
    runs.run(arguments, compile_cache)
    found = pd.read_csv(tmp_path / 'out' / 'predictions.csv')
    assert found.equals(
        pd.read_parquet(tmp_path / 'out' / 'predictions.parquet')
        .replace('', np.nan)
        .astype(found.dtypes)
    )
    known = pd.read_csv(finetuned / 'predictions.csv')
    known = known[known['split'] == 'test']
    if aggregate == 'none':
        assert [Path(path) for path in found['image_path']] == [*map(Path, table['image_path'])]
        means = found.groupby('case_id', sort=False)[['a', 'b']].mean()
    else:
        assert found['images'].sum() == len(table)
        means = found.set_index('case_id')[['a', 'b']]
    np.testing.assert_allclose(
        means, known.set_index('case_id').loc[means.index, ['a', 'b']], atol=1e-6
    )
    assert (found['predicted'] == found[['a', 'b']].idxmax(axis=1)).all()


def test_embeddings_and_probes(finetuned, tiny_manifest, compile_cache, tmp_path):
    """The probe's figures follow from the written features, by scikit-learn."""
    arguments = flags('embed', tmp_path / 'embedded', tiny_manifest, finetuned)
    runs.run(arguments, compile_cache)
    table = pd.read_csv(tmp_path / 'embedded' / 'embeddings.csv')
    parquet = pd.read_parquet(tmp_path / 'embedded' / 'embeddings.parquet')
    columns = [name for name in table if name.startswith('feature_')]
    np.testing.assert_allclose(table[columns], parquet[columns], rtol=1e-6)
    assert len(table) == len(pd.read_csv(tiny_manifest)) and len(columns) == 32
    assert (tmp_path / 'embedded' / 'report.html').exists()

    runs.run(flags('linear_probe', tmp_path / 'probe', tiny_manifest, finetuned), compile_cache)
    probed = pd.read_csv(tmp_path / 'probe' / 'predictions.csv')
    train, test = (table[table['split'] == split] for split in ('train', 'test'))
    candidates = []
    for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=strength, class_weight='balanced', max_iter=3000),
        ).fit(train[columns], train['label'])
        scores = pd.Series(model.predict_proba(test[columns])[:, 1], test['case_id'].to_numpy())
        candidates.append(scores.groupby(level=0).mean())
    ours = probed[probed['split'] == 'test'].set_index('case_id')['b']
    gaps = [np.abs(ours - scores[ours.index]).max() for scores in candidates]
    assert min(gaps) < 1e-3
    result = runs.result(tmp_path / 'probe')
    assert result['evaluated/classifier'] == 'linear_probe'
    assert result['trained_on/before/images'] == runs.result(finetuned)['trained_on/images']


def test_nearest_neighbours_of_random_weights(tiny_manifest, compile_cache, tmp_path):
    more = [
        '--config.classifier=knn', '--config.image_size=16', '--config.model.depth=18',
        '--config.model.width=0.25',
    ]  # fmt: skip
    runs.run(flags('linear_probe', tmp_path, tiny_manifest, None, *more), compile_cache)
    result = runs.result(tmp_path)
    assert result['trained_on/init_from'] == 'random initialisation'
    assert result['task/unit'] == 'cases'
    assert 'averaged to cases' in (tmp_path / 'report.html').read_text()
    assert 0 <= result['test/top1'] <= 1


@pytest.mark.parametrize(
    'policy',
    [
        *(pytest.param(name, marks=pytest.mark.long) for name in ('zeros', 'ones', 'ignore')),
        'own_class',
    ],
)
def test_uncertain_labels(tiny_manifest, compile_cache, tmp_path, policy):
    """Multi-label fine-tuning; where it is judged, uncertain labels are left out."""
    table = pd.read_csv(tiny_manifest, dtype=str)
    table['image_path'] = [str(Path(tiny_manifest).parent / name) for name in table['image_path']]
    names = {'a': 'Edema', 'b': 'Cardiomegaly|Fracture'}
    table['label'] = [
        names[x] + ('|Edema?' if i % 7 == 0 else '') for i, x in enumerate(table['label'])
    ]
    table.to_csv(tmp_path / 'table.csv', index=False)
    more = [
        f'--config.labels.uncertain={policy}',
        "--config.labels.classes=('Cardiomegaly', 'Edema')", '--config.labels.other=ignore',
    ]  # fmt: skip
    workdir = tmp_path / 'out'
    runs.run(
        runs.flags('chexpert_finetune', workdir, str(tmp_path / 'table.csv'), *more), compile_cache
    )
    found = pd.read_csv(workdir / 'predictions.csv')
    test = found[found['split'] == 'test']
    doubtful = test['label'].str.contains('Edema?', regex=False) & ~test['label'].isin(['Edema'])
    doubtful &= ~test['label'].str.split('|').map(lambda parts: 'Edema' in parts)
    result = json.loads((workdir / 'result.json').read_text())
    sure = test[~doubtful]
    truth = sure['label'].str.split('|').map(lambda parts: 'Edema' in parts)
    assert result['test/auc/Edema'] == pytest.approx(roc_auc_score(truth, sure['Edema']))
    scores = test[['Edema', 'Cardiomegaly']].to_numpy()
    assert (scores >= 0).all() and (scores <= 1).all()
    step = 'loss'
    losses = [line[step] for line in runs.metrics(workdir) if line['split'] == 'train']
    assert np.isfinite(losses).all()
