"""Folders of finished runs without running them: predictions are drawn from a known law."""

import json

import numpy as np
import pandas as pd
from etils import epath

from big_ssl.studies import design

CLASSES = ('acne', 'eczema', 'rare')
COUNTS = {'test': (40, 30, 8), 'all': (15, 45, 12)}
STRENGTHS = {'random': 0.6, 'supervised': 1.0, 'simclr': 1.0, 'stacked': 1.6, 'micle': 2.2}
SETTINGS = {
    'seeds': (0, 1, 2), 'only': ('random', 'supervised', 'micle'), 'subgroups': ('sex',),
    'comparisons': (('micle', 'random'),), 'elsewhere_manifest': '/data/there.csv',
    'natural_manifest': '/data/natural.csv', 'every.dataset.manifest': '/data/here.csv',
}  # fmt: skip
RATES = {'learning_rates': (0.3, 0.1, 0.03), 'weight_decays': (0.0,)}


def finish(run, study: epath.Path, strength: float = 1.0, drawn=None) -> None:
    """Writes what a run of this kind leaves; its scores tell classes apart by `strength`.

    `drawn` makes its predictions: `predictions`, the default, or `multilabel`.
    """
    drawn = drawn or predictions
    folder = run.folder(study)
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(run.check(study).config.to_dict()))
    (folder / 'config.json').write_text(json.dumps(config))
    result = {
        'trained_on/synthetic': True,
        'trained_on/data': 'x.csv',
        'trained_on/fingerprint': 'f',
    }
    role = run.facts['role']
    if role == design.PRETRAINING:
        lines = [
            {'step': 1, 'split': 'train', 'loss': 3.0, 'contrastive_top1': 0.1},
            {'step': 9, 'split': 'train', 'loss': 2.0, 'contrastive_top1': 0.2},
        ]
        (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    elif role == design.EMBEDDING:
        table = drawn(run, 'test', strength)
        features = np.random.default_rng(0).normal(size=(len(table), 8))
        table = table[['label']].join(pd.DataFrame(features).add_prefix('feature_'))
        table.to_parquet(str(folder / 'embeddings.parquet'))
    else:
        split = 'all' if role == design.ELSEWHERE_ROLE else 'test'
        drawn(run, split, strength).to_csv(str(folder / 'predictions.csv'), index=False)
        result |= {
            'task/classes': list(CLASSES),
            'task/multilabel': drawn is multilabel,
            'task/negative': '',
            'task/unit': 'images' if split == 'all' else 'cases',
            'val/auc_macro_all': strength / 10,
            f'{split}/sensitivity_at_val_threshold/acne': 0.8,
            f'{split}/sensitivity_at_val_threshold/acne/low': 0.7,
            f'{split}/sensitivity_at_val_threshold/acne/high': 0.9,
        }
    (folder / 'result.json').write_text(json.dumps(result))


def predictions(run, split: str, strength: float) -> pd.DataFrame:
    """The same cases for every run; two cases a patient; scores differ by seed."""
    labels = np.repeat(np.arange(3), COUNTS[split])
    seed = [run.facts['seed'], run.facts.get('finetuning', 0), run.facts.get('draw', 0), len(split)]
    noise = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits = noise + strength * np.eye(3)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table = pd.DataFrame({
        'split': split,
        'case_id': [f'c{i}' for i in range(len(labels))],
        'patient_id': [f'{i // 2:03d}' for i in range(len(labels))],
        'label': np.array(CLASSES, object)[labels],
    })  # fmt: skip
    table[list(CLASSES)] = scores
    table['sex'] = np.where(np.arange(len(labels)) // 2 % 2, 'f', 'm')
    return table


def multilabel(run, split: str, strength: float) -> pd.DataFrame:
    """Any number of the classes a case, every tenth case in doubt about the first class."""
    table = predictions(run, split, strength)
    present = np.random.default_rng(len(split)).random((len(table), 3)) < (0.3, 0.4, 0.05)
    seed = [run.facts['seed'], len(split)]
    noise = np.random.default_rng(seed).normal(size=present.shape)
    table[list(CLASSES)] = 1 / (1 + np.exp(-noise - strength * (2 * present - 1)))
    doubt = np.arange(len(table)) % 10 == 0
    table['label'] = [
        '|'.join(
            name + ('?' if name == CLASSES[0] and unsure else '')
            for name, has in zip(CLASSES, row)
            if has or (name == CLASSES[0] and unsure)
        )
        for row, unsure in zip(present, doubt)
    ]
    return table
