import numpy as np
import pandas as pd
import pytest

from big_ssl.evaluation import cases


def test_means_agree_with_pandas():
    random = np.random.default_rng(0)
    probabilities = random.random((50, 3)).astype(np.float32)
    codes = random.integers(7, 20, 50)
    unique, means = cases.aggregate(probabilities, codes)
    expected = pd.DataFrame(probabilities.astype(np.float64)).groupby(codes).mean()
    np.testing.assert_array_equal(unique, expected.index)
    np.testing.assert_allclose(means, expected.to_numpy(), rtol=1e-12)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match='3 predictions but 2 case codes'):
        cases.aggregate(np.zeros((3, 2)), np.array([1, 2]))
