"""Running a network over images, each counted once, on any number of hosts."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from big_ssl.data import evaluation
from big_ssl.data.images import ImageTable
from big_ssl.errors import Diverged, Preempted
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.loop import ADVICE


def over_images(
    config: ConfigDict,
    table: ImageTable,
    rows: Int[np.ndarray, ' n'],
    forward: Callable[[Any], Any],
    mesh: Mesh,
    should_stop: Callable[[], bool] | None = None,
    batches: Callable[..., Iterator[np.ndarray]] = evaluation.batches,
) -> dict[str, np.ndarray]:
    """`forward` of the evaluation crop of each row, in order.

    Args:
      config: of the run; batches are `batch_size` images, the last one padded.
      table: headers of the images.
      rows: of the manifest.
      forward: uint8 images [b, h, w, c], sharded, to a dictionary of replicated arrays [b, ...].
      mesh: of all devices.
      should_stop: asked once a batch, if given.
      batches: where the images come from: of rows that are asked for again, `evaluation.keeping`.

    Raises:
      InputError: an image does not decode.
      Diverged: an output is not finite.
      Preempted: asked to stop.
    """
    size, count = config.batch_size, len(rows)
    missing = -count % size
    padded = np.concatenate([rows, np.repeat(rows[-1:], missing)]).reshape(-1, size)
    images = batches(
        table,
        padded[:, mesh_lib.local_part(size)],
        size=config.image_size,
        proportion=config.crop.evaluation,
    )
    outputs = []
    for some in images:  # the next ones are decoded while the network computes
        outputs.append(fetch_finite(forward(mesh_lib.spread(some, mesh))))
        if should_stop is not None and should_stop():
            raise Preempted('stopped while evaluating; training is saved')
    return {name: np.concatenate([out[name] for out in outputs])[:count] for name in outputs[0]}


def fetch_finite(outputs: Any) -> Any:
    """NumPy arrays of replicated outputs of a network (a pytree).

    Raises:
      Diverged: one is not finite, as with weights that are finite and far too large.
    """
    fetched = mesh_lib.fetch(outputs)
    if not all(np.isfinite(value).all() for value in jax.tree.leaves(fetched)):
        raise Diverged(f'the outputs of the network are not finite; {ADVICE}')
    return fetched
