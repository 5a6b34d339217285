"""Learning rates and weight decays of fine-tuning that were tried, and which pair is judged.

Whatever a model is judged on, its pair was picked on validation alone: for each method (network,
share of labels) the one with the highest macro AUC there, a mean over seeds and draws.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from etils import epath

from big_ssl.studies import design
from big_ssl.studies.results import read_result
from big_ssl.studies.run import DONE, HAS_DIVERGED, Run

GROUP = ['method', 'network', 'fraction']
PAIR = ['learning_rate', 'weight_decay']


def trials(runs: Sequence[Run], states: Mapping[str, str], study: epath.Path) -> pd.DataFrame:
    """One row for each pair that a method is tried with; empty where a study searches nothing.

    Columns: method, network, fraction, learning_rate, weight_decay, value (macro AUC on validation,
    NaN unless all runs of the pair are done), diverged (a run of it has), picked.
    """
    tried = [
        {key: run.facts[key] for key in GROUP + PAIR}
        | {
            'value': _on_validation(run, study) if states[run.name] == DONE else np.nan,
            'diverged': states[run.name] == HAS_DIVERGED,
        }
        for run in runs
        if run.facts['role'] == design.FINETUNING and run.facts['learning_rate'] is not None
    ]
    if not tried:
        return pd.DataFrame()
    table = pd.DataFrame(tried).groupby(GROUP + PAIR, sort=False, as_index=False)
    found = table.agg(value=('value', lambda x: x.mean(skipna=False)), diverged=('diverged', 'any'))
    best = found.groupby(GROUP)['value'].transform('max')
    found['picked'] = (found['value'] == best) & ~found.duplicated([*GROUP, 'value'])
    return found


def why_none(trials: pd.DataFrame) -> str:
    """Why no pair of a method (rows of `trials`) is picked."""
    if trials['diverged'].all():
        return 'a run of each pair diverged'
    return 'no pair has all its runs done, with a macro AUC on validation'


def without_unpicked(runs: Sequence[Run], tried: pd.DataFrame) -> list[Run]:
    """The runs but for those of pairs that were tried and not picked."""
    if not len(tried):
        return list(runs)
    picked = set(tried.loc[tried['picked'], GROUP + PAIR].itertuples(index=False, name=None))
    return [
        run
        for run in runs
        if run.facts.get('learning_rate') is None
        or tuple(run.facts[key] for key in GROUP + PAIR) in picked
    ]


def _on_validation(run: Run, study: epath.Path) -> float:
    return float(read_result(run, study).get('val/auc_macro_all', np.nan))
