"""Running a network over images, each counted once, on any number of hosts."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from big_ssl.data.images import ImageTable, evaluation_image, in_parallel
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
) -> dict[str, np.ndarray]:
    """`forward` of the evaluation crop of each row, in order.

    Args:
      config: of the run; batches are `batch_size` images, the last one padded.
      table: headers of the images.
      rows: of the manifest.
      forward: uint8 images [b, h, w, c], sharded, to a dictionary of replicated arrays [b, ...].
      mesh: of all devices.
      should_stop: asked once a batch, if given.

    Raises:
      InputError: an image does not decode.
      Diverged: an output is not finite.
      Preempted: asked to stop.
    """
    size = config.batch_size
    part = mesh_lib.local_part(size)

    def load(row: int) -> np.ndarray:
        return evaluation_image(
            table, row, size=config.image_size, proportion=config.crop.evaluation
        )

    outputs = []
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        padded = np.concatenate([chunk, np.repeat(chunk[-1:], size - len(chunk))])
        images = np.stack(list(in_parallel(load, padded[part].tolist())))
        result = fetch_finite(forward(mesh_lib.spread(images, mesh)))
        outputs.append({name: value[: len(chunk)] for name, value in result.items()})
        if should_stop is not None and should_stop():
            raise Preempted('stopped while evaluating; training is saved')
    return {name: np.concatenate([out[name] for out in outputs]) for name in outputs[0]}


def fetch_finite(outputs: Any) -> Any:
    """NumPy arrays of replicated outputs of a network (a pytree).

    Raises:
      Diverged: one is not finite, as with weights that are finite and far too large.
    """
    fetched = mesh_lib.fetch(outputs)
    if not all(np.isfinite(value).all() for value in jax.tree.leaves(fetched)):
        raise Diverged(f'the outputs of the network are not finite; {ADVICE}')
    return fetched
