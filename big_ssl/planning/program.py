"""The training step of a config as a program on any devices; no image is opened, nothing runs."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from big_ssl.data.feed import Batch
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, contrastive, supervised
from big_ssl.train.loop import StepFn
from big_ssl.train.mesh import batch_sharded, replicated
from big_ssl.train.state import TrainState, abstract_state


def training_step(
    config: ConfigDict, mesh: Mesh, *, classes: int, images: int
) -> tuple[StepFn, TrainState, Batch]:
    """The step as a run compiles it, and the shapes and shardings of its state and its batch.

    Args:
      config: settled; `model.dtype` is what the devices of `mesh` get by 'auto'.
      mesh: the devices.
      classes: of fine-tuning, where the config names none.
      images: of the data set, for `dataset.placement=device`.

    Raises:
      InputError: the config trains nothing, leaves open how much there is to hold, or has a batch
        that does not divide over the devices.
    """
    if config.task not in ('contrastive', 'supervised'):
        raise InputError(f'config: task={config.task} trains nothing: there is no step to plan')
    if config.model.dtype == 'auto':
        config = config.copy_and_resolve_references()
        on_cpu = mesh.devices.flat[0].platform == 'cpu'
        config.model.dtype = 'float32' if on_cpu else 'bfloat16'
    epoch = config.batch_size  # of one step: only constants of the schedule depend on it
    schedule = build.make_schedule(config, build.make_plan(config, epoch), epoch)
    optimizer = build.make_optimizer(config, schedule)
    batch = _images(config, mesh, images)

    def state_of(network: nn.Module) -> TrainState:
        return abstract_state(
            network,
            optimizer,
            image_size=config.image_size,
            mesh=mesh,
            shard=config.compute.shard,
        )

    if config.task == 'contrastive':
        network = contrastive.make_network(config)
        batch['groups'] = _array((config.batch_size,), jnp.int32, replicated(mesh))
        step = contrastive.make_step(config, network, optimizer, schedule, mesh)
        return step, state_of(network), batch
    task = _task(config, classes)
    classifier = ClassifierNetwork(build.make_encoder(config), task.outputs)
    batch['targets'] = _targets(config, task, mesh)
    step = supervised.make_step(config, classifier, optimizer, schedule, task, mesh)
    return step, state_of(classifier), batch


def _images(config: ConfigDict, mesh: Mesh, images: int) -> Batch:
    """What `data.feed.Feed` gives of each batch, but for `groups` and `targets`."""
    views = config.views if config.task == 'contrastive' else 1
    each, channels = (config.batch_size, views), config.dataset.channels or 3
    batch = {'examples': _array(each[:1], jnp.uint32, batch_sharded(mesh))}
    if config.dataset.placement == 'host':
        shape = (*each, config.image_size, config.image_size, channels)
        return batch | {'views': _array(shape, jnp.uint8, batch_sharded(mesh))}
    if not images:
        raise InputError('config: dataset.placement=device: say how many images, by --images=N')
    side = config.dataset.device_size or 2 * config.image_size
    return batch | {
        'position': _array(each, jnp.int32, batch_sharded(mesh)),
        'boxes': _array((*each, 4), jnp.float32, batch_sharded(mesh)),
        'stored': _array((images, side, side, channels), jnp.uint8, replicated(mesh)),
    }


def _task(config: ConfigDict, classes: int) -> Task:
    names = tuple(config.labels.classes) or tuple(f'class{i}' for i in range(classes))
    several = config.labels.kind == 'multi'
    doubt = several and config.labels.uncertain == 'own_class'
    return Task(names, multilabel=several, uncertain_class=doubt)


def _targets(config: ConfigDict, task: Task, mesh: Mesh) -> jax.ShapeDtypeStruct:
    if task.multilabel:
        shape = (config.batch_size, len(task.classes))
        return _array(shape, jnp.float32, batch_sharded(mesh))
    return _array((config.batch_size,), jnp.int32, batch_sharded(mesh))


def _array(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
