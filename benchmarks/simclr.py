"""big_ssl's own training step, and what it is fed with: random views, ready views, real images."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import datasets, feed
from big_ssl.data.batches import Batch, Cropped
from big_ssl.data.sampler import Sampler
from big_ssl.data.training import make_units
from big_ssl.losses.ntxent import nt_xent
from big_ssl.methods import Method, simclr
from big_ssl.tasks import build
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.loop import StepFn
from big_ssl.train.state import TrainState, initial_state


@dataclasses.dataclass(frozen=True)
class Training:
    """The parts of a run of pre-training on one device."""

    method: Method
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule

    @property
    def config(self) -> ConfigDict:
        return self.method.config

    @property
    def mesh(self) -> Mesh:
        return self.method.mesh

    def state(self) -> TrainState:
        """Fresh parameters; a step uses them up."""
        return initial_state(
            self.method.network,
            self.optimizer,
            image_size=self.config.image_size,
            seed=self.config.seed,
            mesh=self.mesh,
        )


def training_of(config: ConfigDict) -> Training:
    """What `tasks.training.run` makes of a config, on the first device."""
    epoch = config.batch_size
    plan = build.make_plan(config, epoch)
    schedule = build.make_schedule(config, plan, epoch)
    mesh = mesh_lib.make_mesh(jax.devices()[:1])
    method = simclr.make(config, build.make_encoder(config), mesh, plan.total)
    return Training(method, build.make_optimizer(config, schedule), schedule)


def whole_step(training: Training) -> StepFn:
    """The step of pre-training as it is, augmentation and, of images on the device, crops too."""
    return build.make_step(training.method, training.optimizer, training.schedule)


def ready_step(training: Training) -> StepFn:
    """The same step on the batches of `ready_views`: network, loss and optimiser alone."""
    network, mesh = training.method.network, training.mesh

    def loss_fn(params: Any, state: TrainState, batch: Batch) -> tuple[jax.Array, Any]:
        variables = {'params': params, 'batch_stats': state.batch_stats}
        pixels = batch.each['views']
        b, v, *shape = pixels.shape
        found, updates = network.apply(
            variables, pixels.reshape(b * v, *shape), train=True, mutable=['batch_stats']
        )
        z = found['z'].reshape(b, v, -1)
        with jax.named_scope('loss'):
            loss, metrics = nt_xent(z, batch.groups, training.config.method.temperature, mesh=mesh)
        return loss, (metrics, {'batch_stats': updates['batch_stats']})

    return build.make_update(loss_fn, training.optimizer, training.schedule, mesh)


def random_views(training: Training) -> Batch:
    """A batch as the host's way gives it, of noise: `views` uint8 [b, 2, size, size, 3]."""
    shape = _shape(training.config)
    views = jax.jit(lambda: jax.random.bits(jax.random.key(0), shape, jnp.uint8))()
    return _batch(training, {'views': views, 'examples': np.arange(shape[0], dtype=np.uint32)})


def ready_views(training: Training) -> Batch:
    """A batch of noise that needs no augmentation: `views` float32 in [0, 1]."""
    shape = _shape(training.config)
    return _batch(
        training, {'views': jax.jit(lambda: jax.random.uniform(jax.random.key(0), shape))()}
    )


def image_batches(training: Training) -> feed.Batches:
    """Batches of the images of `dataset.manifest`, all of which are on the device.

    Raises:
      InputError: as a run on these images.
    """
    config = training.config
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(config_lib.names(config.splits.train))
    table = datasets.open_images(config, manifest, rows)
    units = make_units(config, manifest, rows)
    sampler = Sampler(units, config.seed, config.batch_size, config.views)
    return feed.make_feed(config, table, sampler, training.mesh)


def _shape(config: ConfigDict) -> tuple[int, ...]:
    return (config.batch_size, config.views, config.image_size, config.image_size, 3)


def _batch(training: Training, each: dict[str, Any]) -> Batch:
    """Laid out as `feed` does: a step compiles for it as for a real one."""
    spread = jax.device_put(each, mesh_lib.batch_sharded(training.mesh))
    groups = np.arange(training.config.batch_size, dtype=np.int32)
    return Batch(spread, jax.device_put(groups, mesh_lib.replicated(training.mesh)), Cropped())
