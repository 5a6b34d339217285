"""Against jax.lax.conv_general_dilated, in a process of one device and in one of several."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.models.convolution import conv_general_dilated

CASES = [  # image, kernel, stride, padding, channels, features
    ((9, 12), 3, 1, [(1, 1), (1, 1)], 5, 7),
    ((9, 12), 3, 2, [(1, 1), (1, 1)], 64, 8),
    ((16, 17), 7, 2, [(3, 3), (3, 3)], 3, 8),
    ((16, 17), 7, 2, 'SAME', 3, 8),
    ((8, 8), 3, 2, 'SAME', 16, 4),
    ((8, 7), 1, 1, [(0, 0), (0, 0)], 6, 5),
    ((8, 7), 1, 2, [(0, 0), (0, 0)], 6, 5),
    ((2, 2), 3, 1, [(1, 1), (1, 1)], 50, 6),
    ((3, 4), 3, 2, [(1, 1), (1, 1)], 6, 6),
    ((1, 1), 3, 1, [(1, 1), (1, 1)], 6, 6),
    ((2, 2), 3, 2, 'SAME', 6, 6),
    ((1, 5), 1, 1, [(0, 0), (0, 0)], 6, 6),
]


def plain(x, kernel, stride, padding):
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=dimensions
    )


def check(size, width, stride, padding, channels, features):
    """Values and both gradients."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, *size, channels)).astype(np.float32)
    kernel = rng.normal(size=(width, width, channels, features)).astype(np.float32)

    def ours(x, kernel):
        return conv_general_dilated(x, kernel, (stride, stride), padding, lhs_dilation=(1, 1))

    def theirs(x, kernel):
        return plain(x, kernel, stride, padding)

    out = theirs(x, kernel)
    weights = rng.normal(size=out.shape).astype(np.float32)
    np.testing.assert_allclose(jax.jit(ours)(x, kernel), out, rtol=1e-5, atol=1e-4)
    gradients = (
        jax.jit(jax.grad(lambda x, kernel, f=f: jnp.sum(f(x, kernel) * weights), (0, 1)))(x, kernel)
        for f in (ours, theirs)
    )
    for a, b in zip(*gradients):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize('case', CASES, ids=str)
def test_on_several_devices(case):
    assert jax.device_count() == 8
    check(*case)


def test_on_one_device():
    """The products are used there alone; `_on_cpu` is asked, so that this cannot pass by XLA's."""
    code = (
        'from tests.models import test_convolution as t\n'
        'from big_ssl.models import convolution as c\n'
        'used, kept = [], c._kernel_gradient\n'
        'c._kernel_gradient = lambda *a, **k: used.append(1) or kept(*a, **k)\n'
        'for case in t.CASES: t.check(*case)\n'
        'assert len(used) >= len(t.CASES)\n'
    )
    environment = os.environ | {'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('option', [{'lhs_dilation': (2, 2)}, {'feature_group_count': 2}])
def test_other_convolutions_are_refused(option):
    x, kernel = jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 2))
    with pytest.raises(ValueError, match='is not supported'):
        conv_general_dilated(x, kernel, (1, 1), 'SAME', **option)
