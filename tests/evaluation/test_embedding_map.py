import sys
import types

import numpy as np
import pytest
import sklearn.decomposition

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


def test_umap_is_seeded_and_only_asked_for_when_used(monkeypatch):
    class Reducer:
        def __init__(self, **settings):
            self.settings = settings

        def fit_transform(self, features):
            assert self.settings == {'n_neighbors': 4, 'random_state': 3, 'n_jobs': 1}
            return features[:, :2].astype(np.float32)

    monkeypatch.setitem(sys.modules, 'umap', types.SimpleNamespace(UMAP=Reducer))
    features = np.random.default_rng(3).normal(size=(10, 4))
    found = embedding_map.umap(features, neighbours=4, seed=3)
    np.testing.assert_allclose(found, features[:, :2], rtol=1e-6)
    monkeypatch.setitem(sys.modules, 'umap', None)  # as if not installed
    with pytest.raises(InputError, match='pip install umap-learn'):
        embedding_map.umap(features)
