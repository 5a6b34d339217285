"""Pre-training: SimCLR (two crops of one image) and MICLe (two images of one case).

What one step computes is `make_step`; everything else gets it running.
"""

import contextlib
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import datasets, feed, training
from big_ssl.data.batches import Source
from big_ssl.data.manifest import Manifest
from big_ssl.files import INIT_FROM, PAIRS, PARAMETERS
from big_ssl.losses.ntxent import nt_xent
from big_ssl.models.heads import ProjectionHead
from big_ssl.models.networks import ContrastiveNetwork
from big_ssl.report import pictures
from big_ssl.tasks import build, forward, monitor, outputs, provenance
from big_ssl.train import loop
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.compilation import ahead, in_background, whole
from big_ssl.train.distributed import StopRequest
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

PICTURED = 8  # examples in pairs.png


def make_network(config: ConfigDict) -> ContrastiveNetwork:
    """Encoder and projection head."""
    head = ProjectionHead(config.model.projection_layers, config.model.projection_size)
    return ContrastiveNetwork(build.make_encoder(config), head)


def make_step(
    config: ConfigDict, network: ContrastiveNetwork, optimizer: Any, schedule: Any, mesh: Mesh
) -> loop.StepFn:
    """One step of contrastive learning, compiled: (state, batch) → (state, metrics)."""

    def loss_fn(params: Any, state: TrainState, source: Source) -> tuple[jax.Array, Any]:
        batch = source.drawn(state.step)
        z, batch_stats = forward.outputs(config, network, 'z', params, state, batch, mesh)
        groups = batch.groups if config.mask_same_patient else jnp.arange(len(z))
        with jax.named_scope('loss'):
            loss, metrics = nt_xent(z, groups, config.temperature, mesh=mesh)
        return loss, (metrics, batch_stats)

    forward.check_chunks(config, mesh)
    shard, figures = config.compute.shard, build.optimizer_figures(config)
    return build.make_update(loss_fn, optimizer, schedule, mesh, shard, figures)


def save_pairs(
    config: ConfigDict,
    batch: Source,
    images: np.ndarray,
    manifest: Manifest,
    mesh: Mesh,
    workdir: epath.Path,
    writer: MetricsWriter,
) -> None:
    """`pairs.png`, in TensorBoard too: the first views exactly as the network first sees them.

    Args:
      batch: of step 0.
      images: [b, v] rows of the manifest in that batch.
    """

    @whole(mesh)
    def first_views(batch: Source) -> jax.Array:
        step = jnp.zeros((), jnp.int32)
        return feed.augmented(config, batch.drawn(step), step)[:PICTURED]

    seen = np.rint(mesh_lib.fetch(first_views(batch)) * 255).astype(np.uint8)
    captions = [
        manifest.case_id[row[0]] or epath.Path(manifest.image_path[row[0]]).name
        for row in images[:PICTURED]
    ]
    if jax.process_index() == 0:
        picture = pictures.pairs(seen, captions)
        workdir_lib.write(workdir / PAIRS, picture)
        writer.images(0, {'pairs': picture})


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Pre-trains, resuming where the workdir left off, and writes the result and the report."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(config_lib.names(config.splits.train))
    bank, query = monitor.bank_and_query(config, manifest)
    table = datasets.open_images(config, manifest, rows, *([query.rows] if query else []))
    sampler = training.unlabelled(config, manifest, rows)
    batches = feed.make_feed(config, table, sampler, mesh)
    plan = build.make_plan(config, sampler.epoch)
    schedule = build.make_schedule(config, plan, sampler.epoch)
    network = make_network(config)
    optimizer = build.make_optimizer(config, schedule)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    about = {
        'config': config.to_dict(),
        'data': manifest.fingerprint(),
        'trained_on': provenance.trained_on(config, manifest, rows, checkpoints),
    }
    parts = ('encoder', 'projection')
    first_batch = in_background(lambda: next(batches(range(1))))
    state, loaded = build.start(config, network, optimizer, checkpoints, about, mesh, parts=parts)
    build.log_size(state, plan, images=len(rows), epoch=sampler.epoch)
    files = {INIT_FROM: loaded, PARAMETERS: build.parameter_table(state)}
    step = ahead(make_step(config, network, optimizer, schedule, mesh), state, batches.like)
    first = first_batch()
    workdir_lib.begin(workdir, config.to_dict(), files)
    with contextlib.closing(MetricsWriter(workdir, int(state.step), config.to_dict())) as writer:
        if int(state.step) == 0:
            save_pairs(config, first, sampler.batch(0).images, manifest, mesh, workdir, writer)
        state = loop.fit(
            state,
            step,
            batches,
            plan,
            checkpoints=checkpoints,
            about=about,
            writer=writer,
            monitor=monitor.make_monitor(config, network, table, first, bank, query, mesh),
            score=None,
            should_stop=should_stop,
            what='pre-training',
        )
    outputs.write_pretraining(workdir, provenance.at_step(about, int(state.step)))
