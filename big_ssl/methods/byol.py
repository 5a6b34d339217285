"""BYOL: a network predicts what an average of itself makes of another view; there are no negatives.

Grill et al. 2020 (arXiv:2006.07733). The heads and the growth of `average` are those of its section
3.3 and of the published code. Pairs of a case (`pairing=case`) are predicted from each other.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from big_ssl.losses.float32 import EXACT, normalise
from big_ssl.methods import Key, Method
from big_ssl.methods import check_pairs as check
from big_ssl.models.heads import MLP
from big_ssl.models.networks import PredictingNetwork

__all__ = ['KEYS', 'LABELS', 'TASK', 'check', 'make']

TASK, LABELS = 'contrastive', 'none'
KEYS = {
    'average': Key(0.996, 'share of the target network that is kept in a step, at the start', 0, 1),
    'hidden_size': Key(4096, 'width of the projection and of the prediction', 1),
    'projection_size': Key(256, 'numbers that they give', 1),
}


class BYOL(Method):
    figures: ClassVar = {
        'loss': 'BYOL loss',
        'target_similarity': 'cosine of prediction and target',
    }
    parts: ClassVar = ('encoder', 'projection', 'prediction')

    @property
    def network(self) -> nn.Module:
        keys = self.config.method
        sizes = (keys.hidden_size, keys.projection_size)
        return PredictingNetwork(self.encoder, MLP(sizes), MLP(sizes))

    def init(self, variables: Any) -> Any:
        """The target network, at first the network itself."""
        return {name: variables[name] for name in ('params', 'batch_stats')}

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        network, target = self.network, state.extra
        prediction, batch_stats = views.through(network, params, state.batch_stats, 'prediction')
        wanted, target_stats = views.through(network, target['params'], target['batch_stats'], 'z')
        with jax.named_scope('loss'):
            loss, figures = byol(prediction, wanted)
        changed = {'batch_stats': batch_stats, 'extra': {**target, 'batch_stats': target_stats}}
        return loss, figures, changed

    def after_update(self, params: Any, state: Any) -> Any:
        """The target network moves towards the network, ever more slowly (section 3.3)."""
        left = (jnp.cos(jnp.pi * (state.step - 1) / self.steps) + 1) / 2
        kept = 1 - (1 - self.config.method.average) * left
        averaged = jax.tree.map(
            lambda old, new: kept * old + (1 - kept) * new, state.extra['params'], params
        )
        return {**state.extra, 'params': averaged}


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


make = BYOL
