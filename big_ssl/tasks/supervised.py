"""Fine-tuning: every weight trained with labels, the checkpoint picked on validation, then judged.

Trains on single images with their case's label, every case weighted equally.
"""

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import cases, feed, labels, source
from big_ssl.data.labels import Task
from big_ssl.data.sampler import Indices, Sampler
from big_ssl.errors import InputError
from big_ssl.losses.classification import sigmoid_xent, softmax_xent
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, evaluate, outputs
from big_ssl.tasks.scores import Scores
from big_ssl.train import loop
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.distributed import StopRequest
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

SCORE = 'auc_macro'  # of validation, picks the best checkpoint


def make_step(
    config: ConfigDict,
    network: ClassifierNetwork,
    optimizer: Any,
    schedule: Any,
    task: Task,
    mesh: Mesh,
) -> loop.StepFn:
    """One step of fine-tuning, compiled: (state, batch) → (state, metrics)."""

    def loss_fn(params: Any, state: TrainState, batch: feed.Batch) -> tuple[jax.Array, Any]:
        images = feed.augmented(config, batch, state.step)[:, 0]
        variables = {'params': params, 'batch_stats': state.batch_stats}
        out, updates = network.apply(variables, images, train=True, mutable=['batch_stats'])
        weights = jnp.ones(images.shape[:1])
        if task.multilabel:
            loss = sigmoid_xent(out['logits'], batch['targets'], weights)
        else:
            loss = softmax_xent(
                out['logits'], batch['targets'], weights, label_smoothing=config.label_smoothing
            )
        return loss, ({}, updates['batch_stats'])

    return build.make_update(loss_fn, optimizer, schedule, mesh)


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Fine-tunes, resuming where the workdir left off, and evaluates val and `splits.evaluate`."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    manifest = source.open_manifest(config)
    everything = labels.labelled(manifest, manifest.rows(config_lib.names(config.splits.train)))
    task = labels.find_task(manifest, everything, config.labels.kind)
    rows = labels.fraction(manifest, everything, config.label_fraction, config.label_seed, task)
    judged = _judged_splits(config, manifest)
    judged_rows = [
        labels.labelled(manifest, manifest.rows(config_lib.names(split))) for split in judged
    ]
    for split, some in zip((config.splits.train, *judged), (rows, *judged_rows)):
        if not len(some):
            raise InputError(f'{manifest.path}: no row of split {split} has a label')
        evaluate.check_labels(config, manifest, some, task)
    table = source.open_images(config, manifest, rows, *judged_rows)

    by_case = config.aggregate != 'none'
    units = (cases.units_of_cases if by_case else cases.units_of_images)(manifest, rows)
    sampler = Sampler(units, config.seed, config.batch_size, views=1)
    plan = build.make_plan(config, sampler.epoch)
    schedule = build.make_schedule(config, plan, sampler.epoch)
    network = ClassifierNetwork(build.make_encoder(config), len(task.classes))
    optimizer = build.make_optimizer(config, schedule)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    about = {
        'config': config.to_dict(),
        'data': manifest.fingerprint(),
        'classes': list(task.classes),
        'multilabel': task.multilabel,
    }
    state = build.start(config, network, optimizer, checkpoints, about, mesh, parts=('encoder',))
    log.info(
        '%d labelled images of %d cases, %d classes, %d steps of %d, %.1fM parameters',
        len(rows),
        len(units),
        len(task.classes),
        plan.total,
        config.batch_size,
        build.count_parameters(state) / 1e6,
    )

    targets = np.zeros(
        (len(manifest), *labels.encode(manifest, rows[:1], task).shape[1:]),
        np.float32 if task.multilabel else np.int32,
    )
    targets[rows] = labels.encode(manifest, rows, task)

    def labels_of(indices: Indices) -> feed.Batch:
        return {'targets': targets[indices.images[:, 0]]}

    forward = evaluate.make_forward(network, task.multilabel, mesh)

    def score(state: TrainState, split: str, stop: Any = None) -> Scores:
        of_state = functools.partial(forward, state.params, state.batch_stats)
        return evaluate.score(config, table, split, task, of_state, mesh, stop)

    def monitor(state: TrainState) -> loop.Metrics:
        if config.splits.val not in judged:
            return {}
        return evaluate.quick_figures(score(state, config.splits.val), task)

    pick_best = config.select == 'best'
    state = loop.fit(
        state,
        make_step(config, network, optimizer, schedule, task, mesh),
        feed.Feed(config, table, sampler, mesh, part=labels_of).batches,
        plan,
        checkpoints=checkpoints,
        about=about,
        writer=MetricsWriter(workdir, int(state.step)),
        monitor=monitor,
        score=SCORE if pick_best else None,
        should_stop=should_stop,
        what='fine-tuning',
    )
    best = checkpoints.best() if pick_best else None
    if best is not None:
        state = checkpoints.restore(best, state)
        log.info('evaluating step %d, the best on %s', best, config.splits.val)
    scored = [score(state, split, should_stop) for split in judged]
    thresholds = evaluate.thresholds_of(scored[0], task) if judged[0] == config.splits.val else None
    evaluate.report(
        config,
        workdir,
        manifest,
        scored,
        task,
        thresholds,
        outputs.trained_on(config, manifest, rows, int(state.step)),
    )


def _judged_splits(config: ConfigDict, manifest: Any) -> list[str]:
    """Validation, if there is one, and then each of `splits.evaluate`."""
    judged = list(config_lib.names(config.splits.evaluate))
    if source.has_split(manifest, config.splits.val):
        return [config.splits.val, *(name for name in judged if name != config.splits.val)]
    if config.select == 'best':
        raise InputError(
            f'{manifest.path}: no row has split {config.splits.val!r}, which picks the checkpoint; '
            'name another by --config.splits.val, or take the last by --config.select=last'
        )
    return judged
