import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.models.heads import Classifier, ProjectionHead

FEATURES = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)


def batch_norm(x):
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


@pytest.mark.parametrize('layers', [1, 2, 3])
def test_projection_equals_numpy(layers):
    head = ProjectionHead(layers=layers, size=5)
    params = head.init(jax.random.key(0), FEATURES, True)['params']
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), params)
    stats = head.init(jax.random.key(0), FEATURES, True)['batch_stats']
    out, updated = head.apply(
        {'params': params, 'batch_stats': stats}, FEATURES, True, mutable=['batch_stats']
    )

    x = FEATURES.astype(np.float64)
    for index in range(1, layers + 1):
        hidden = index < layers
        x = x @ params[f'dense{index}']['kernel']
        running = updated['batch_stats'][f'bn{index}']
        np.testing.assert_allclose(running['mean'], 0.1 * x.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(running['var'], 0.9 + 0.1 * x.var(axis=0), rtol=1e-5)
        x = batch_norm(x) * params[f'bn{index}']['scale']
        x = np.maximum(x + params[f'bn{index}']['bias'], 0) if hidden else x
    np.testing.assert_allclose(out, x, atol=1e-4)


def test_shapes_and_names_of_the_projection():
    params = ProjectionHead().init(jax.random.key(0), FEATURES, True)['params']
    assert jax.tree.map(jnp.shape, params) == {
        'dense1': {'kernel': (6, 6)},
        'bn1': {'scale': (6,), 'bias': (6,)},
        'dense2': {'kernel': (6, 128)},
        'bn2': {'scale': (128,)},
    }


def test_heads_compute_in_float32():
    features = FEATURES.astype(jnp.bfloat16)
    z, _ = ProjectionHead().init_with_output(jax.random.key(0), features, True)
    logits, _ = Classifier(3).init_with_output(jax.random.key(0), features)
    assert z.dtype == logits.dtype == jnp.float32


def test_kernels_start_small():
    wide = jnp.zeros((2, 512))
    projection = ProjectionHead().init(jax.random.key(0), wide, True)['params']
    classifier = Classifier(27).init(jax.random.key(0), wide)['params']
    for kernel in (projection['dense1']['kernel'], classifier['dense']['kernel']):
        np.testing.assert_allclose(np.std(kernel), 0.01, rtol=0.05)
    np.testing.assert_array_equal(classifier['dense']['bias'], np.zeros(27))
