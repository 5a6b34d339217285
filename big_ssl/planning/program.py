"""The training step of a config as a program on any devices; no image is opened, nothing runs."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data.batches import Source
from big_ssl.data.device import Pool
from big_ssl.data.feed import crop_of, host_batch, stored_layout
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.run_keys import PRETRAINING
from big_ssl.tasks import build
from big_ssl.train.loop import StepFn
from big_ssl.train.mesh import batch_sharded, replicated
from big_ssl.train.state import TrainState, abstract_state


def training_step(
    config: ConfigDict, mesh: Mesh, *, classes: int, images: int
) -> tuple[StepFn, TrainState, Source]:
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
    if config.task not in config_lib.TRAINING:
        raise InputError(f'config: task={config.task} trains nothing: there is no step to plan')
    if config.model.dtype == 'auto':
        config = config.copy_and_resolve_references()
        on_cpu = mesh.devices.flat[0].platform == 'cpu'
        config.model.dtype = 'float32' if on_cpu else 'bfloat16'
    epoch = config.batch_size  # of one step: only constants of the schedule depend on it
    plan = build.make_plan(config, epoch)
    schedule = build.make_schedule(config, plan, epoch)
    optimizer = build.make_optimizer(config, schedule)
    module = config_lib.method_of(config)
    task = None if module.LABELS == 'none' else _task(config, classes)
    method = module.make(config, build.make_encoder(config), mesh, plan.total, task)
    state = abstract_state(
        method.network,
        optimizer,
        image_size=config.image_size,
        mesh=mesh,
        shard=config.compute.shard,
        extra=method.init,
    )
    targets = {} if task is None else {'targets': _target(task)}
    step = build.make_step(method, optimizer, schedule)
    return step, state, _batch(config, mesh, images, targets)


def _batch(
    config: ConfigDict, mesh: Mesh, images: int, by_image: dict[str, jax.ShapeDtypeStruct]
) -> Source:
    """What `data.feed` gives, with facts of an image of these shapes."""
    views = config.views if config.task == PRETRAINING else 1
    channels = config.dataset.channels or 3
    if config.dataset.placement == 'device':
        return _pool(config, mesh, images, views, channels, by_image)
    return host_batch(config, mesh, views, channels, by_image)


def _pool(
    config: ConfigDict,
    mesh: Mesh,
    images: int,
    views: int,
    channels: int,
    by_image: dict[str, jax.ShapeDtypeStruct],
) -> Pool:
    """A unit for each image: the most that there can be."""
    if not images:
        raise InputError('config: dataset.placement=device: say how many images, by --images=N')
    layout = stored_layout(config, channels)

    def whole(*shape: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return _array(shape, dtype, replicated(mesh))

    arrays: dict[str, Any] = {
        'stored': _array(layout.shape(images, mesh.size), jnp.uint8, batch_sharded(mesh)),
        'sizes': whole(images, 2),
        'offsets': whole(images + 1),
        'images': whole(images),
        'groups': whole(images),
        'by_image': {
            name: whole(images, *fact.shape, dtype=fact.dtype) for name, fact in by_image.items()
        },
    }
    return Pool(
        **arrays,
        layout=layout,
        seed=config.seed,
        batch_size=config.batch_size,
        views=views,
        crop=crop_of(config),
        mesh=mesh,
    )


def _task(config: ConfigDict, classes: int) -> Task:
    names = tuple(config.labels.classes) or tuple(f'class{i}' for i in range(classes))
    several = config.labels.kind == 'multi'
    doubt = several and config.labels.uncertain == 'own_class'
    return Task(names, multilabel=several, uncertain_class=doubt)


def _target(task: Task) -> jax.ShapeDtypeStruct:
    """Of one image."""
    if task.multilabel:
        return jax.ShapeDtypeStruct((len(task.classes),), jnp.float32)
    return jax.ShapeDtypeStruct((), jnp.int32)


def _array(shape: tuple[int, ...], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
