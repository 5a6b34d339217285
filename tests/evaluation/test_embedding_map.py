import sys

import numpy as np
import pytest
import sklearn.decomposition
import sklearn.metrics

from big_ssl.errors import InputError
from big_ssl.evaluation import embedding_map

pytestmark = pytest.mark.filterwarnings('error')


def test_components_are_scikit_learns_up_to_sign():
    features = np.random.default_rng(0).normal(size=(50, 8)) * np.arange(1, 9) + 100
    expected = sklearn.decomposition.PCA(2).fit_transform(features)
    found = embedding_map.pca(features.astype(np.float32))
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-3)


def test_the_largest_loading_is_positive():
    """The mirrored data have the same axes, so their points are the mirror image."""
    features = np.random.default_rng(1).normal(size=(40, 5)) * np.arange(1, 6)
    points = embedding_map.pca(features)
    centred = features - features.mean(axis=0)
    loadings = np.linalg.lstsq(points, centred, rcond=None)[0]
    assert (np.take_along_axis(loadings, abs(loadings).argmax(axis=1)[:, None], axis=1) > 0).all()
    np.testing.assert_allclose(embedding_map.pca(-features), -points, atol=1e-12)


@pytest.mark.parametrize('shape', [(1, 5), (7, 1), (2, 5)])
def test_a_component_that_is_not_there_is_zero(shape):
    points = embedding_map.pca(np.random.default_rng(2).normal(size=shape))
    assert points.shape == (shape[0], 2)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-12)


@pytest.fixture
def umap_learn():
    return pytest.importorskip('umap', reason='umap-learn is not installed: pip install .[umap]')


def test_umap_shows_groups_and_is_the_same_at_each_call(umap_learn):
    """Groups so far apart that the graph of neighbours falls into five parts."""
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 5, 200)
    features = (6 * rng.normal(size=(5, 32)))[groups] + rng.normal(size=(200, 32))
    points = embedding_map.umap(features.astype(np.float32), seed=1)
    assert sklearn.metrics.silhouette_score(points, groups) > 0.8
    np.testing.assert_array_equal(points, embedding_map.umap(features.astype(np.float32), seed=1))


@pytest.mark.parametrize('shape', [(1, 5), (2, 5), (3, 5), (8, 5), (30, 1)])
def test_umap_of_few_points_is_finite(umap_learn, shape):
    for features in (np.random.default_rng(5).normal(size=shape), np.ones(shape)):
        points = embedding_map.umap(features.astype(np.float32))
        assert points.shape == (shape[0], 2) and np.isfinite(points).all()


def test_umap_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)  # as if not installed
    with pytest.raises(InputError, match='pip install umap-learn'):
        embedding_map.umap(np.zeros((10, 4), np.float32))
