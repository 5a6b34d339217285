"""Whole numbers in as few bytes as they need."""

import numpy as np
from jaxtyping import Int


def narrow(values: Int[np.ndarray, '*n']) -> Int[np.ndarray, '*n']:
    """The same numbers as int32, or as int64 where one does not fit."""
    fits = not values.size or values.min() >= -(2**31) and values.max() < 2**31
    return values.astype(np.int32 if fits else np.int64)
