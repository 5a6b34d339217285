"""Features in two dimensions, for a picture."""

import importlib

import numpy as np
from jaxtyping import Float

from big_ssl.errors import InputError


def pca(features: Float[np.ndarray, 'n d']) -> Float[np.ndarray, 'n 2']:
    """The first two principal components; a component that the data lack is 0.

    From the singular value decomposition of the centred features, in float64. A component's sign is
    such that its loading of largest magnitude is positive.
    """
    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(axis=0, keepdims=True)
    _, _, loadings = np.linalg.svd(centred, full_matrices=False)
    loadings = loadings[:2]
    largest = np.take_along_axis(loadings, abs(loadings).argmax(axis=1)[:, None], axis=1)
    points = centred @ (loadings * np.where(largest < 0, -1, 1)).T
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def umap(
    features: Float[np.ndarray, 'n d'], neighbours: int = 15, seed: int = 0
) -> Float[np.ndarray, 'n 2']:
    """McInnes et al. 2018, UMAP, from the package umap-learn; one thread, so a seed gives one map.

    It begins with the principal components (Kobak and Linderman 2021, Nature Biotechnology 39),
    which keeps the distances between groups: umap-learn's own start, spectral, gives another map
    at each call where the graph of neighbours falls apart. Fewer than 3 different points, and
    points of one feature, are returned as their principal components.

    Raises:
      InputError: the package umap-learn is not installed.
    """
    try:
        package = importlib.import_module('umap')
    except ImportError as error:
        raise InputError(
            'UMAP needs the package umap-learn: pip install umap-learn, or draw PCA'
        ) from error
    if len(np.unique(features, axis=0)) < 3 or features.shape[1] == 1:
        return pca(features)
    reducer = package.UMAP(
        n_neighbors=min(neighbours, len(features) - 1), init='pca', random_state=seed, n_jobs=1
    )
    return np.asarray(reducer.fit_transform(features), np.float64)
