"""Figures that show whether pre-training learns or collapses, without touching the test split."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.augment.simclr import to_float
from big_ssl.data import datasets, evaluation, feed, labels, permutation
from big_ssl.data.batches import Source
from big_ssl.data.images import ImageTable
from big_ssl.data.manifest import Manifest
from big_ssl.evaluation import collapse, knn
from big_ssl.methods import Method
from big_ssl.tasks import inference
from big_ssl.train import loop
from big_ssl.train.compilation import whole
from big_ssl.train.state import TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Rows of the manifest with their class numbers, of `count` classes."""

    rows: Int[np.ndarray, ' n']
    classes: Int[np.ndarray, ' n']
    count: int


def make_monitor(
    method: Method,
    table: ImageTable,
    pairs: Source,
    bank: Labelled | None,
    query: Labelled | None,
) -> Callable[[TrainState], loop.Metrics]:
    """Figures that show whether pre-training learns or collapses.

    Args:
      pairs: a batch of training, for alignment and uniformity of its views.
      bank, query: labelled images of train and val for the kNN accuracy; None skips it.
    """
    config, network, mesh = method.config, method.network, method.mesh

    def apply(state: TrainState, images: jax.Array) -> Any:
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        return network.apply(variables, images, train=False)

    @whole(mesh)
    def embed_pairs(state: TrainState, batch: Source) -> dict[str, jax.Array]:
        step = jnp.zeros((), jnp.int32)
        images = feed.augmented(config, batch.drawn(step), step)
        out = apply(state, images.reshape(-1, *images.shape[2:]))
        return {name: value.reshape(*images.shape[:2], -1) for name, value in out.items()}

    @whole(mesh)
    def embed(state: TrainState, images: jax.Array) -> jax.Array:
        return apply(state, to_float(images))['features']

    def features(state: TrainState, rows: np.ndarray, batches: Any) -> np.ndarray:
        def forward(images: jax.Array) -> dict[str, jax.Array]:
            return {'features': embed(state, images)}

        found = inference.over_images(config, table, rows, forward, mesh, batches=batches)
        return found['features']

    of_bank, of_query = evaluation.keeping(), evaluation.keeping()

    def monitor(state: TrainState) -> loop.Metrics:
        paired = inference.fetch_finite(embed_pairs(state, pairs))
        z = paired.get('z', paired['features'])
        figures = {'alignment': collapse.alignment(z[:, :2])} if z.shape[1] > 1 else {}
        figures |= {
            'uniformity': collapse.uniformity(z[:, 0]),
            'effective_rank': collapse.effective_rank(paired['features'][:, 0]),
        }
        if bank is not None and query is not None:
            accuracy = knn.knn_accuracy(
                features(state, bank.rows, of_bank),
                bank.classes,
                features(state, query.rows, of_query),
                query.classes,
                bank.count,
                k=config.monitor.knn_k,
            )
            figures |= {f'knn_{name}': value for name, value in accuracy.items()}
        return figures

    return monitor


def bank_and_query(
    config: ConfigDict, manifest: Manifest
) -> tuple[Labelled, Labelled] | tuple[None, None]:
    """Train and val for the kNN monitor, never test; a line says so where there are no labels."""
    if config.labels.kind == 'multi':
        log.info('kNN monitor skipped: it needs one label an image')
        return None, None
    if not datasets.has_split(manifest, config.splits.val):
        log.info('kNN monitor skipped: no rows in split %s', config.splits.val)
        return None, None
    rows = [
        labels.labelled(manifest, manifest.rows(config_lib.names(joined)))
        for joined in (config.splits.train, config.splits.val)
    ]
    seen = set(manifest.label[rows[0]].tolist())
    rows[1] = rows[1][[label in seen for label in manifest.label[rows[1]]]]
    if len(seen) < 2 or not len(rows[1]):
        log.info(
            'kNN monitor skipped: no labels in %s and %s', config.splits.train, config.splits.val
        )
        return None, None
    task = labels.find_task(manifest, rows[0], 'single')
    bank, query = (
        Labelled(some, labels.encode(manifest, some, task), len(task.classes))
        for some in (_at_most(part, config.monitor.max_images, config.seed) for part in rows)
    )
    return bank, query


def _at_most(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """A seeded choice of `limit` rows, or all of them."""
    if len(rows) <= limit:
        return rows
    return np.sort(rows[permutation.permute(np.arange(limit), len(rows), seed)])
