import pytest
from etils import epath

from big_ssl.studies.run import DONE
from tests.studies import made_up
from tests.studies.made_up import RATES, SETTINGS
from tests.studies.test_design import load, runs_of


@pytest.fixture
def searched(as_a_fresh_process, tmp_path):
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
