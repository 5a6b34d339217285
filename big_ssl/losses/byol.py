"""BYOL: each view's prediction of what the target network makes of the other views."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from big_ssl.losses.float32 import EXACT, normalise


def byol(
    prediction: Float[Array, 'b v d'], target: Float[Array, 'b v d']
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']]]:
    """Returns the loss and its figure for v >= 2 views of each of b examples.

    An ordered pair of views u, w of one example contributes 2 - 2 cos(prediction_u, target_w), the
    squared distance of the unit vectors: Grill et al. 2020 (arXiv:2006.07733), eq. 2. The loss is
    twice the mean over pairs and examples; that of two views is the sum of both directions of the
    paper. It is computed in float32, and nothing is learnt through the target. A zero vector has
    cosine 0 and a finite gradient.

    Returns:
      The loss, float32, and `target_similarity`, the mean cosine of the pairs.

    Raises:
      ValueError: for shapes that are not both [b, v >= 2, d].
    """
    if prediction.ndim != 3 or prediction.shape[1] < 2 or prediction.shape != target.shape:
        raise ValueError(
            f'expected prediction and target [b, v >= 2, d], got {prediction.shape}, {target.shape}'
        )
    examples, views, _ = prediction.shape
    prediction, target = normalise(prediction), normalise(jax.lax.stop_gradient(target))
    cosines = jnp.einsum('bud,bwd->buw', prediction, target, **EXACT)
    pairs = 1 - jnp.eye(views)[None]
    similarity = jnp.sum(cosines * pairs) / (examples * views * (views - 1))
    return 4 - 4 * similarity, {'target_similarity': jax.lax.stop_gradient(similarity)}
