"""Weighted k-nearest-neighbour classification: how good frozen features are, without training."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from big_ssl.evaluation import class_frequencies, metrics

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
    scores = np.zeros((len(query), classes))
    for start, nearest, votes in _neighbours(bank, query, k, temperature):
        rows = np.broadcast_to(start + np.arange(len(votes))[:, None], votes.shape)
        np.add.at(scores, (rows, bank_labels[nearest]), votes)
    return scores / scores.sum(axis=1, keepdims=True)


def knn_predict_multilabel(
    bank: Float[np.ndarray, 'n d'],
    bank_targets: Float[np.ndarray, 'n classes'],
    query: Float[np.ndarray, 'm d'],
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> Float[np.ndarray, 'm classes']:
    """Probability of each class: the mean of the neighbours' targets, weighted as `knn_predict`.

    Targets are 1, 0 and NaN (missing): a neighbour counts for the classes it is labelled for. Where
    no neighbour is, the probability is the share of the class in the bank, 0 without any label.

    Raises ValueError if the bank is empty.
    """
    share = np.nan_to_num(class_frequencies.shares(bank_targets, classes))
    scores = np.tile(share, (len(query), 1))
    known = ~np.isnan(bank_targets)
    for start, nearest, votes in _neighbours(bank, query, k, temperature):
        labelled = np.einsum('mk,mkc->mc', votes, known[nearest])
        positive = np.einsum('mk,mkc->mc', votes, bank_targets[nearest] == 1)
        of_query = scores[start : start + len(votes)]
        np.divide(positive, labelled, out=of_query, where=labelled > 0)
    return scores


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


def _neighbours(
    bank: Float[np.ndarray, 'n d'], query: Float[np.ndarray, 'm d'], k: int, temperature: float
) -> Iterator[tuple[int, Int[np.ndarray, 'q k'], Float[np.ndarray, 'q k']]]:
    """For q queries at a time: number of the first, indices of the k nearest, and their votes."""
    if not len(bank):
        raise ValueError('kNN needs at least one bank entry')
    k = min(k, len(bank))
    bank, query = _normalise(bank), _normalise(query)
    step = max(1, _CHUNK_ELEMENTS // len(bank))
    for start in range(0, len(query), step):
        similarity = query[start : start + step] @ bank.T
        nearest = np.argpartition(similarity, len(bank) - k, axis=1)[:, len(bank) - k :]
        near = np.take_along_axis(similarity, nearest, axis=1).astype(np.float64)
        yield start, nearest, np.exp((near - near.max(axis=1, keepdims=True)) / temperature)


def _normalise(features: Float[np.ndarray, 'n d']) -> Float[np.ndarray, 'n d']:
    """Rows of length 1, float32; a row of zeros stays zero."""
    features = np.asarray(features, np.float32)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, np.float32(1))
