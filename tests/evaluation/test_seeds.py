import numpy as np
import pytest

from big_ssl.evaluation import seeds


def test_by_hand():
    """Means 0.8 (of two) and 0.6 (of three); within: (2 * 0.01 + 2 * 0.0025) / 3."""
    values, pretraining = [0.7, 0.6, 0.9, 0.55, 0.65], [4, 9, 4, 9, 9]
    found = seeds.spread(values, pretraining)
    assert (found.n_pretrainings, found.n_runs) == (2, 5)
    assert found.mean == pytest.approx(0.7)
    assert found.sd_pretraining == pytest.approx(np.sqrt(0.02))
    assert found.sd_finetuning == pytest.approx(np.sqrt((0.02 + 0.005) / 3))


def test_what_one_pretraining_or_one_finetuning_cannot_tell():
    one = seeds.spread([0.7, 0.9], [0, 0])
    assert np.isnan(one.sd_pretraining) and one.sd_finetuning == pytest.approx(np.sqrt(0.02))
    each = seeds.spread([0.7, 0.9], [0, 1])
    assert np.isnan(each.sd_finetuning) and each.sd_pretraining == pytest.approx(np.sqrt(0.02))
    alone = seeds.spread([0.7], [3])
    assert alone.mean == 0.7 and np.isnan([alone.sd_pretraining, alone.sd_finetuning]).all()


def test_deviations_recover_those_they_were_drawn_with():
    random = np.random.default_rng(0)
    pretraining = np.repeat(np.arange(4000), 2)
    values = random.normal(0, 2, 4000)[pretraining] + random.normal(0, 1, 8000)
    found = seeds.spread(values, pretraining)
    assert found.sd_finetuning == pytest.approx(1, rel=0.04)
    assert found.sd_pretraining == pytest.approx(np.sqrt(4 + 1 / 2), rel=0.04)
