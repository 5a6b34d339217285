"""Weighted k-nearest-neighbour classification: how good frozen features are, without training."""

import numpy as np
from jaxtyping import Float, Int

from big_ssl.evaluation import metrics

_CHUNK_ELEMENTS = 2**24  # 64 MiB of float32 similarities


def knn_predict(
    bank: Float[np.ndarray, 'n d'],
    bank_labels: Int[np.ndarray, ' n'],
    query: Float[np.ndarray, 'm d'],
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Float[np.ndarray, 'm classes']:
    """Class scores of each query by its k most similar bank entries, each row summing to 1.

    Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance Discrimination,
    section 3.4: a neighbour of cosine similarity s votes for its class with weight
    exp(s / temperature). Features are L2-normalised here, in float32; k is clipped to the size of
    the bank. Temperature 0.07 is the paper's; its k is 200, on 1.3 million images.

    Raises ValueError if the bank is empty.
    """
    if not len(bank):
        raise ValueError('kNN needs at least one bank entry')
    k = min(k, len(bank))
    bank, query = _normalise(bank), _normalise(query)
    scores = np.zeros((len(query), classes))
    step = max(1, _CHUNK_ELEMENTS // len(bank))
    for start in range(0, len(query), step):
        similarity = query[start : start + step] @ bank.T
        nearest = np.argpartition(similarity, len(bank) - k, axis=1)[:, len(bank) - k :]
        near = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
        votes = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
        rows = np.broadcast_to(start + np.arange(len(near))[:, None], near.shape)
        np.add.at(scores, (rows, bank_labels[nearest]), votes)
    return scores / scores.sum(axis=1, keepdims=True)


def knn_accuracy(
    bank: Float[np.ndarray, 'n d'],
    bank_labels: Int[np.ndarray, ' n'],
    query: Float[np.ndarray, 'm d'],
    query_labels: Int[np.ndarray, ' m'],
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """`top1` and `balanced_accuracy` of `knn_predict` on the queries."""
    scores = knn_predict(bank, bank_labels, query, classes, k, temperature)
    once = np.ones((1, len(query)))
    return {
        'top1': float(metrics.top_k_accuracy(query_labels, scores, once)[0]),
        'balanced_accuracy': float(metrics.balanced_accuracy(query_labels, scores, once)[0]),
    }


def _normalise(features: Float[np.ndarray, 'n d']) -> Float[np.ndarray, 'n d']:
    """Rows of length 1, float32; a row of zeros stays zero."""
    features = np.asarray(features, np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, np.float32(1))
