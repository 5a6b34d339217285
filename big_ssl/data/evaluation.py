"""Evaluation images in batches: by tf.data, or by threads where TensorFlow is not installed."""

import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt8

from big_ssl.data.images import ImageTable, evaluation_image, in_parallel


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


def _by_threads(
    table: ImageTable, rows: Int[np.ndarray, 'n b'], size: int, proportion: float
) -> Iterator[UInt8[np.ndarray, 'b size size c']]:
    load = functools.partial(evaluation_image, table, size=size, proportion=proportion)
    images = in_parallel(load, rows.reshape(-1).tolist())
    for _ in range(len(rows)):
        yield np.stack([next(images) for _ in range(rows.shape[1])])
