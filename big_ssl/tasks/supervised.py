"""Fine-tuning: every weight trained with labels, the checkpoint picked on validation, then judged.

Trains on single images with their case's label, every case weighted equally.
"""

import contextlib
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
from ml_collections import ConfigDict

from big_ssl.data import evaluation, feed, training
from big_ssl.data.batches import Source
from big_ssl.data.labels import Task
from big_ssl.data.sampler import Sampler
from big_ssl.files import INIT_FROM, PARAMETERS
from big_ssl.losses.classification import sigmoid_xent, softmax_xent, three_way_xent
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, forward, inference, judge, provenance, trained
from big_ssl.tasks.judge import Split
from big_ssl.tasks.labelled import Data, open_data
from big_ssl.tasks.scores import Scores
from big_ssl.train import loop
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.compilation import ahead, in_background
from big_ssl.train.distributed import StopRequest
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

SCORE = 'auc_macro_all'  # of validation, picks the best checkpoint


def make_step(
    config: ConfigDict,
    network: ClassifierNetwork,
    optimizer: Any,
    schedule: Any,
    task: Task,
    mesh: Mesh,
) -> loop.StepFn:
    """One step of fine-tuning, compiled: (state, batch) → (state, metrics)."""

    def loss_fn(params: Any, state: TrainState, source: Source) -> tuple[jax.Array, Any]:
        batch = source.drawn(state.step)
        out, batch_stats = forward.outputs(config, network, 'logits', params, state, batch, mesh)
        logits, weights = out[:, 0], jnp.ones(len(out))
        if task.uncertain_class:
            loss = three_way_xent(logits, batch.each['targets'], weights)
        elif task.multilabel:
            loss = sigmoid_xent(logits, batch.each['targets'], weights)
        else:
            loss = softmax_xent(
                logits, batch.each['targets'], weights, label_smoothing=config.label_smoothing
            )
        return loss, ({}, batch_stats)

    forward.check_chunks(config, mesh)
    shard, figures = config.compute.shard, build.optimizer_figures(config)
    return build.make_update(loss_fn, optimizer, schedule, mesh, shard, figures)


def make_feed(config: ConfigDict, data: Data, mesh: Mesh) -> tuple[feed.Batches, Sampler]:
    """Batches of one image a case with its `targets`."""
    sampler, by_image = training.labelled(config, data.manifest, data.rows, data.task)
    return feed.make_feed(config, data.table, sampler, mesh, by_image=by_image), sampler


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Fine-tunes, resuming where the workdir left off, and evaluates val and `splits.evaluate`."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    data = open_data(config)
    batches, sampler = make_feed(config, data, mesh)
    plan = build.make_plan(config, sampler.epoch)
    schedule = build.make_schedule(config, plan, sampler.epoch)
    network = ClassifierNetwork(build.make_encoder(config), data.task.outputs)
    optimizer = build.make_optimizer(config, schedule)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    about = {
        'config': config.to_dict(),
        'data': data.manifest.fingerprint(),
        'trained_on': provenance.trained_on(config, data.manifest, data.rows, checkpoints),
        'task': dataclasses.asdict(data.task),
    }
    first_batch = in_background(lambda: next(batches(range(1))))
    state, loaded = build.start(
        config, network, optimizer, checkpoints, about, mesh, parts=('encoder',)
    )
    build.log_size(state, plan, images=len(data.rows), epoch=sampler.epoch)
    files = {INIT_FROM: loaded, PARAMETERS: build.parameter_table(state)}
    make = make_step(config, network, optimizer, schedule, data.task, mesh)
    step = ahead(make, state, batches.like)
    first_batch()  # what is wrong with it is said before anything is written
    workdir_lib.begin(workdir, config.to_dict(), files)
    predict = trained.make_forward(network, data.task, mesh)

    score = _scorer(config, data, predict, mesh)
    validated = evaluation.keeping()

    def monitor(state: TrainState) -> loop.Metrics:
        if data.validation is None:
            return {}
        return judge.quick_figures(score(state, data.validation, read=validated), data.task)

    with contextlib.closing(MetricsWriter(workdir, int(state.step), config.to_dict())) as writer:
        state = loop.fit(
            state,
            step,
            batches,
            plan,
            checkpoints=checkpoints,
            about=about,
            writer=writer,
            monitor=monitor,
            score=SCORE if config.select == 'best' else None,
            should_stop=should_stop,
            what='fine-tuning',
        )
        state, selected = _selected(config, checkpoints, state)
        scored = [score(state, split, should_stop) for split in data.judged]
        thresholds = judge.thresholds_of(scored[0], data.task) if data.validation else None
        seen = provenance.at_step(about, int(state.step)) | {'evaluated/checkpoint': selected}
        show = functools.partial(writer.images, int(state.step))
        judge.report(config, workdir, data.manifest, scored, data.task, thresholds, seen, show)


def _scorer(
    config: ConfigDict, data: Data, predict: Callable[..., Any], mesh: Mesh
) -> Callable[..., Scores]:
    """Of a state and a split its scores; `predict` is of `trained.make_forward`."""

    def score(
        state: TrainState, split: Split, stop: Any = None, read: Any = evaluation.batches
    ) -> Scores:
        of_state = functools.partial(predict, state.params, state.batch_stats)

        def probabilities(rows: np.ndarray) -> np.ndarray:
            found = inference.over_images(config, data.table, rows, of_state, mesh, stop, read)
            return found['probabilities']

        return judge.score(config, data.manifest, split, data.task, probabilities)

    return score


def _selected(
    config: ConfigDict, checkpoints: Checkpoints, last: TrainState
) -> tuple[TrainState, str]:
    """The state that is evaluated, and whether it is the `best` on validation or the `last`."""
    if config.select != 'best':
        return last, 'last'
    best = checkpoints.best()
    if best is None:
        log.warning('%s: no %s (one class?), evaluating the last step', config.splits.val, SCORE)
        return last, 'last'
    log.info('evaluating step %d, the best on %s', best, config.splits.val)
    return checkpoints.restore(best, last), 'best'
