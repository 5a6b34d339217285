"""Monitors of collapse: do the embeddings use the sphere, or shrink to a point or a few directions?

Wang & Isola 2020, Understanding Contrastive Representation Learning through Alignment and
Uniformity on the Hypersphere; Roy & Vetterli 2007, The Effective Rank; Garrido et al. 2023, RankMe.
All in float64.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import pdist
from scipy.special import logsumexp


def alignment(z: Float[np.ndarray, 'n 2 d']) -> float:
    """Mean squared distance of the two views of a pair on the unit sphere; 0 (same) to 4.

    L_align of Wang & Isola 2020 with alpha = 2. Embeddings are L2-normalised here.
    """
    z = _normalise(z)
    return float(((z[:, 0] - z[:, 1]) ** 2).sum(axis=-1).mean())


def uniformity(z: Float[np.ndarray, 'm d'], t: float = 2.0) -> float:
    """Log of the mean of exp(-t * squared distance) over distinct pairs; 0 is complete collapse.

    L_uniform of Wang & Isola 2020; lower is more uniform. Embeddings are L2-normalised here.
    Time and memory grow with m^2: pass a few thousand rows.

    Raises ValueError with fewer than two rows.
    """
    if len(z) < 2:
        raise ValueError('uniformity needs at least two embeddings')
    squared = pdist(_normalise(z), 'sqeuclidean')
    return float(logsumexp(-t * squared) - np.log(len(squared)))


def effective_rank(features: Float[np.ndarray, 'n d']) -> float:
    """Exponential of the entropy of the singular values normalised to sum 1; 1 to min(n, d).

    Roy & Vetterli 2007, definition 1, and RankMe: the features are not centred, so a large common
    mean counts as one strong direction. 0 if all features are zero.
    """
    singular = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    singular = singular[singular > 0]
    if not len(singular):
        return 0.0
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _normalise(z: Float[np.ndarray, '... d']) -> Float[np.ndarray, '... d']:
    """Last axis of length 1, float64; zeros stay zero."""
    z = np.asarray(z, np.float64)
    norms = np.linalg.norm(z, axis=-1, keepdims=True)
    return z / np.where(norms > 0, norms, 1)
