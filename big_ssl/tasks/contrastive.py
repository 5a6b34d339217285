"""Pre-training: SimCLR (two crops of one image) and MICLe (two images of one case).

What one step computes is `make_step`; everything else gets it running.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from jaxtyping import Int
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.augment.simclr import to_float
from big_ssl.data import cases, feed, labels, permutation, source
from big_ssl.data.images import ImageTable
from big_ssl.data.manifest import Manifest
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.errors import InputError
from big_ssl.evaluation import collapse, knn
from big_ssl.losses.ntxent import nt_xent
from big_ssl.models.heads import ProjectionHead
from big_ssl.models.networks import ContrastiveNetwork
from big_ssl.report import pictures
from big_ssl.tasks import build, outputs, predict
from big_ssl.train import loop
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.distributed import StopRequest
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

PICTURED = 8  # examples in pairs.png


def make_step(
    config: ConfigDict, network: ContrastiveNetwork, optimizer: Any, schedule: Any, mesh: Mesh
) -> loop.StepFn:
    """One step of contrastive learning, compiled: (state, batch) → (state, metrics)."""

    def loss_fn(params: Any, state: TrainState, batch: feed.Batch) -> tuple[jax.Array, Any]:
        images = feed.augmented(config, batch, state.step)
        b, v, *shape = images.shape
        variables = {'params': params, 'batch_stats': state.batch_stats}
        out, updates = network.apply(
            variables, images.reshape(b * v, *shape), train=True, mutable=['batch_stats']
        )
        z = out['z'].reshape(b, v, -1)
        loss, metrics = nt_xent(z, batch['groups'], config.temperature, mesh=mesh)
        return loss, (metrics, updates['batch_stats'])

    return build.make_update(loss_fn, optimizer, schedule, mesh)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Rows of the manifest with their class numbers, of `count` classes."""

    rows: Int[np.ndarray, ' n']
    classes: Int[np.ndarray, ' n']
    count: int


def make_monitor(
    config: ConfigDict,
    network: ContrastiveNetwork,
    table: ImageTable,
    pairs: feed.Batch,
    bank: Labelled | None,
    query: Labelled | None,
    mesh: Mesh,
) -> Callable[[TrainState], loop.Metrics]:
    """Figures that show whether pre-training learns or collapses.

    Args:
      pairs: a batch of training, for alignment and uniformity of its views.
      bank, query: labelled images of train and val for the kNN accuracy; None skips it.
    """
    whole = mesh_lib.replicated(mesh)

    def outputs(state: TrainState, images: jax.Array) -> dict[str, jax.Array]:
        variables = {'params': state.params, 'batch_stats': state.batch_stats}
        return network.apply(variables, images, train=False)

    @functools.partial(jax.jit, out_shardings=whole)
    def embed_pairs(state: TrainState, batch: feed.Batch) -> dict[str, jax.Array]:
        images = feed.augmented(config, batch, jnp.zeros((), jnp.int32))
        out = outputs(state, images.reshape(-1, *images.shape[2:]))
        return {name: value.reshape(*images.shape[:2], -1) for name, value in out.items()}

    @functools.partial(jax.jit, out_shardings=whole)
    def embed(state: TrainState, images: jax.Array) -> jax.Array:
        return outputs(state, to_float(images))['features']

    def features(state: TrainState, rows: np.ndarray) -> np.ndarray:
        def forward(images: jax.Array) -> dict[str, jax.Array]:
            return {'features': embed(state, images)}

        return predict.over_images(config, table, rows, forward, mesh)['features']

    def monitor(state: TrainState) -> loop.Metrics:
        paired = mesh_lib.fetch(embed_pairs(state, pairs))
        figures = {
            'alignment': collapse.alignment(paired['z'][:, :2]),
            'uniformity': collapse.uniformity(paired['z'][:, 0]),
            'effective_rank': collapse.effective_rank(paired['features'][:, 0]),
        }
        if bank is not None and query is not None:
            accuracy = knn.knn_accuracy(
                features(state, bank.rows),
                bank.classes,
                features(state, query.rows),
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
    if not source.has_split(manifest, config.splits.val):
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


def save_pairs(
    config: ConfigDict,
    batch: feed.Batch,
    images: np.ndarray,
    manifest: Manifest,
    mesh: Mesh,
    workdir: epath.Path,
) -> None:
    """`pairs.png`: the first views exactly as the network first sees them.

    Args:
      batch: of step 0.
      images: [b, v] rows of the manifest in that batch.
    """

    @functools.partial(jax.jit, out_shardings=mesh_lib.replicated(mesh))
    def first_views(batch: feed.Batch) -> jax.Array:
        return feed.augmented(config, batch, jnp.zeros((), jnp.int32))[:PICTURED]

    seen = np.rint(mesh_lib.fetch(first_views(batch)) * 255).astype(np.uint8)
    captions = [
        manifest.case_id[row[0]] or epath.Path(manifest.image_path[row[0]]).name
        for row in images[:PICTURED]
    ]
    if jax.process_index() == 0:
        workdir_lib.write(workdir / outputs.PAIRS, pictures.pairs(seen, captions))


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Pre-trains, resuming where the workdir left off, and writes the result and the report."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    manifest = source.open_manifest(config)
    rows = manifest.rows(config_lib.names(config.splits.train))
    bank, query = bank_and_query(config, manifest)
    table = source.open_images(config, manifest, rows, *([query.rows] if query else []))
    sampler = Sampler(
        make_units(config, manifest, rows), config.seed, config.batch_size, config.views
    )
    plan = build.make_plan(config, sampler.epoch)
    schedule = build.make_schedule(config, plan, sampler.epoch)
    head = ProjectionHead(config.model.projection_layers, config.model.projection_size)
    network = ContrastiveNetwork(build.make_encoder(config), head)
    optimizer = build.make_optimizer(config, schedule)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    about = {'config': config.to_dict(), 'data': manifest.fingerprint()}
    state = build.start(
        config, network, optimizer, checkpoints, about, mesh, parts=('encoder', 'projection')
    )
    log.info(
        '%d images, %d examples an epoch, %d steps of %d, %.1fM parameters',
        len(rows),
        sampler.epoch,
        plan.total,
        config.batch_size,
        build.count_parameters(state) / 1e6,
    )

    def groups(indices: Indices) -> feed.Batch:
        masked = config.mask_same_patient
        codes = indices.groups if masked else np.arange(config.batch_size)
        return {'groups': codes.astype(np.int32)}

    training = feed.Feed(config, table, sampler, mesh, whole=groups)
    first = next(training.batches(range(1)))
    if int(state.step) == 0:
        save_pairs(config, first, sampler.batch(0).images, manifest, mesh, workdir)
    state = loop.fit(
        state,
        make_step(config, network, optimizer, schedule, mesh),
        training.batches,
        plan,
        checkpoints=checkpoints,
        about=about,
        writer=MetricsWriter(workdir, int(state.step)),
        monitor=make_monitor(config, network, table, first, bank, query, mesh),
        score=None,
        should_stop=should_stop,
        what='pre-training',
    )
    outputs.write_pretraining(workdir, outputs.trained_on(config, manifest, rows, int(state.step)))


def make_units(config: ConfigDict, manifest: Manifest, rows: np.ndarray) -> cases.Units:
    """Cases for `pairing=case`, images for `pairing=augment`."""
    if config.pairing == 'augment':
        return cases.units_of_images(manifest, rows)
    units = cases.units_of_cases(manifest, rows)
    several = int((np.diff(units.offsets) > 1).sum())
    log.info('%d cases, %d of them with two or more images', len(units), several)
    if not several:
        raise InputError(
            f'{manifest.path}: pairing=case, but no case has two images; is column '
            f'{config.dataset.columns.case_id!r} the case? (--config.pairing=augment is SimCLR)'
        )
    return units
