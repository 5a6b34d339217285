import numpy as np
import pytest

from big_ssl.data.integers import narrow


@pytest.mark.parametrize(
    ('values', 'kind'),
    [
        ([], np.int32),
        ([0, 2**31 - 1], np.int32),
        ([-(2**31), 5], np.int32),
        ([0, 2**31], np.int64),
        ([-(2**31) - 1, 5], np.int64),
    ],
)
def test_numbers_stay_and_take_what_they_need(values, kind):
    found = narrow(np.array(values, np.int64))
    assert found.dtype == kind and found.tolist() == values
