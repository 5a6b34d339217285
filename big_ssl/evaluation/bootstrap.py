"""Bootstrap over patients: whole clusters are drawn, because a patient's cases are not independent.

Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 8: the resampling follows the
structure of the data. `intervals` makes intervals of the replicates.
"""

import numpy as np
from jaxtyping import Int, Shaped


def cluster_weights(
    clusters: Shaped[np.ndarray, ' n'], replicates: int, seed: int
) -> Int[np.ndarray, 'r n']:
    """How often each case is drawn in each replicate, int32; a cluster's cases share one count.

    A replicate draws as many clusters as there are, with replacement. The same clusters, seed and
    case order give the same replicates, so the difference of two models evaluated on the same
    cases can be bootstrapped in pairs; more replicates leave the first ones as they are.

    Args:
      clusters: patient (or case, where no patient is known) of each case: any sortable codes.
    """
    codes, cluster_of_case = np.unique(clusters, return_inverse=True)
    random = np.random.default_rng(seed)
    weights = np.empty((replicates, len(clusters)), np.int32)
    for row in weights:
        drawn = random.integers(len(codes), size=len(codes))
        row[:] = np.bincount(drawn, minlength=len(codes))[cluster_of_case]
    return weights
