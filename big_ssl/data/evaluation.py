"""Evaluation images in batches: by tf.data, or by threads where TensorFlow is not installed."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, UInt8

from big_ssl.data.images import ImageTable, evaluation_image, in_parallel

KEPT = 2**30  # bytes: of 7,000 images of 224 px, or of 87,000 of 64 px


def batches(
    table: ImageTable, rows: Int[np.ndarray, 'n b'], *, size: int, proportion: float
) -> Iterator[UInt8[np.ndarray, 'b size size c']]:
    """The evaluation crops of each batch of rows, decoded ahead of the one that is waited for.

    See `images.evaluation_image`. With `dataset.placement=device` training needs no TensorFlow, and
    its monitors must not either.

    Raises:
      InputError: an image does not decode.
    """
    try:
        from big_ssl.data import pipeline

        raised: list[Exception] = []
        dataset = pipeline.evaluation_batches(
            table, rows, size=size, proportion=proportion, raised=raised
        )
    except ImportError:
        yield from _by_threads(table, rows, size, proportion)
        return
    for batch in pipeline.arrays_of(dataset, raised):
        yield batch['images']


def keeping(limit: int = KEPT) -> Callable[..., Iterator[UInt8[np.ndarray, 'b size size c']]]:
    """`batches`, for the same rows again and again: the first time decodes, later ones do not.

    Where they take more than `limit` bytes on this host nothing is kept, and each time decodes.
    """
    kept: list[np.ndarray] = []

    def again(
        table: ImageTable, rows: Int[np.ndarray, 'n b'], *, size: int, proportion: float
    ) -> Iterator[UInt8[np.ndarray, 'b size size c']]:
        if len(kept) == len(rows):
            yield from kept
            return
        kept.clear()  # of a time that was broken off
        fits = rows.size * size**2 * table.channels <= limit
        for batch in batches(table, rows, size=size, proportion=proportion):
            if fits:
                kept.append(batch)
            yield batch

    return again


def _by_threads(
    table: ImageTable, rows: Int[np.ndarray, 'n b'], size: int, proportion: float
) -> Iterator[UInt8[np.ndarray, 'b size size c']]:
    load = functools.partial(evaluation_image, table, size=size, proportion=proportion)
    images = in_parallel(load, rows.reshape(-1).tolist())
    for _ in range(len(rows)):
        yield np.stack([next(images) for _ in range(rows.shape[1])])
