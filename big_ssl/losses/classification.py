"""Weighted cross-entropies of fine-tuning, in float32.

A weight of zero takes an example out of the mean (padding, a missing label); where nothing is left
the loss is 0.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def softmax_xent(
    logits: Float[Array, 'b k'],
    labels: Int[Array, ' b'],
    weights: Float[Array, ' b'],
    *,
    label_smoothing: float = 0.0,
) -> Float[Array, '']:
    """The weighted mean cross-entropy of one label in [0, k) per example, in nats.

    `label_smoothing` is the share of the target spread evenly over the k classes, the true one
    included (Szegedy et al. 2016, arXiv:1512.00567, section 7).
    """
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return _weighted_mean(-jnp.sum(targets * log_probabilities, axis=-1), weights)


def sigmoid_xent(
    logits: Float[Array, 'b k'],
    targets: Float[Array, 'b k'],
    weights: Float[Array, ' b'],
) -> Float[Array, '']:
    """The weighted mean binary cross-entropy over all known targets, in nats.

    Targets lie in [0, 1]; NaN is a missing one and is left out. Each known target counts with its
    example's weight, so an example with more known targets counts for more.
    """
    known = ~jnp.isnan(targets)
    losses = optax.sigmoid_binary_cross_entropy(
        logits.astype(jnp.float32), jnp.where(known, targets, 0.0).astype(jnp.float32)
    )
    return _weighted_mean(losses, jnp.where(known, weights[:, None], 0.0))


def three_way_xent(
    logits: Float[Array, 'b 3k'],
    targets: Float[Array, 'b k'],
    weights: Float[Array, ' b'],
) -> Float[Array, '']:
    """The weighted mean cross-entropy of negative, positive and uncertain for each of k classes.

    U-MultiClass of Irvin et al. 2019 (CheXpert, arXiv:1901.07031, section 3.1). Targets are 0, 1, 2
    (uncertain) or NaN (missing, left out); the three logits of a class are beside one another.
    """
    known = ~jnp.isnan(targets)
    labels = jnp.where(known, targets, 0.0).astype(jnp.int32)
    outcomes = logits.astype(jnp.float32).reshape(*targets.shape, 3)
    losses = optax.softmax_cross_entropy_with_integer_labels(outcomes, labels)
    return _weighted_mean(losses, jnp.where(known, weights[:, None], 0.0))


def three_way_probabilities(logits: Float[Array, 'b 3k']) -> Float[Array, 'b k']:
    """The chance of positive where it is either positive or negative, float32 (section 3.1)."""
    outcomes = logits.astype(jnp.float32).reshape(logits.shape[0], -1, 3)
    return jax.nn.sigmoid(outcomes[..., 1] - outcomes[..., 0])


def _weighted_mean(losses: Float[Array, '...'], weights: Float[Array, '...']) -> Float[Array, '']:
    weights = weights.astype(jnp.float32)
    total = jnp.sum(weights)
    return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1.0)
