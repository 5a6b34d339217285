"""From a config to the parts of a run that every kind of training shares."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from clu import parameter_overview
from clu.parameter_overview import count_parameters as count
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data.batches import Source
from big_ssl.errors import InputError
from big_ssl.files import PARAMETERS
from big_ssl.methods import Method
from big_ssl.tasks import forward
from big_ssl.train import compilation, init_from, schedules
from big_ssl.train import optimizer as optimizer_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.loop import Plan, StepFn
from big_ssl.train.mesh import cut, replicated
from big_ssl.train.state import TrainState, abstract_state, initial_state, layout, with_extra

log = logging.getLogger(__name__)

_LARGEST = 4  # parts of the network in the log
Figures = dict[str, jax.Array]
LossFn = Callable[[Any, TrainState, Any], tuple[jax.Array, tuple[Figures, dict[str, Any]]]]


def make_encoder(config: ConfigDict) -> nn.Module:
    """The backbone; `dtype=auto` is bfloat16 on accelerators and float32 on a CPU.

    Raises:
      InputError: it does not do to images what `init_normalization` says.
    """
    config, on_cpu = config_lib.closed(config), jax.default_backend() == 'cpu'
    dtype = {'auto': 'float32' if on_cpu else 'bfloat16'}.get(
        config.model.dtype, config.model.dtype
    )
    encoder = config_lib.backbone_of(config).make(config, jnp.dtype(dtype))
    done = getattr(encoder, 'normalization', 'none')
    if done != config.init_normalization:
        raise InputError(
            f'config: init_normalization={config.init_normalization}, but model.name='
            f'{config.model.name} gives a network whose attribute normalization is {done}'
        )
    return encoder


def make_plan(config: ConfigDict, epoch: int) -> Plan:
    """Durations in steps, for an epoch of so many examples."""
    total = config_lib.steps(config, 'total', epoch=epoch)
    every = {
        name: config_lib.steps(config, name, epoch=epoch, total=total)
        for name in ('log_every', 'monitor_every', 'checkpoint_every')
    }
    return Plan(
        total=total,
        **every,
        images_per_step=config.batch_size,
        watchdog_seconds=config.compute.watchdog_seconds,
        profile_steps=config.compute.profile_steps,
    )


def make_schedule(config: ConfigDict, plan: Plan, epoch: int) -> optax.Schedule:
    """Scaled peak rate, linear warm-up, then cosine to 0 or constant."""
    peak = schedules.scaled_learning_rate(
        config.optimizer.learning_rate, config.batch_size, config.optimizer.scaling
    )
    warmup = config_lib.steps(config, 'warmup', epoch=epoch, total=plan.total)
    if warmup >= plan.total:
        raise InputError(
            f'config: a warm-up of {warmup} steps does not fit a run of {plan.total}; '
            'shorten it, for example by --config.warmup_percent=10'
        )
    if config.optimizer.schedule == 'constant':
        return optax.join_schedules(
            [optax.linear_schedule(0.0, peak, warmup), schedules.constant(peak)], [warmup]
        )
    return schedules.warmup_cosine(peak, warmup, plan.total)


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optimizer_lib.make_optimizer(
        config.optimizer.name,
        schedule,
        weight_decay=config.optimizer.weight_decay,
        momentum=config.optimizer.momentum,
        nesterov=config.optimizer.nesterov,
    )


def optimizer_figures(config: ConfigDict) -> Callable[[Any, Any], Figures]:
    """(gradients, parameters) → what the optimiser does with them: LARS's trust ratios."""
    if config.optimizer.name == 'lars':
        decay = config.optimizer.weight_decay
        return functools.partial(optimizer_lib.trust_ratios, weight_decay=decay)
    return lambda gradients, params: {}


def make_step(
    method: Method, optimizer: optax.GradientTransformation, schedule: optax.Schedule
) -> StepFn:
    """One step of training by a method, compiled: (state, batch) → (state, metrics).

    Raises:
      InputError: the batch does not divide over the devices and `config.chunks`.
    """
    config, mesh = method.config, method.mesh
    forward.check_chunks(config, mesh)

    def loss_fn(params: Any, state: TrainState, source: Source) -> tuple[jax.Array, Any]:
        views = forward.Views(config, source.drawn(state.step), state.step, mesh)
        loss, figures, changed = method.loss(params, state, views)
        return loss, (figures, changed)

    return make_update(
        loss_fn,
        optimizer,
        schedule,
        mesh,
        config.compute.shard,
        optimizer_figures(config),
        method.after_update,
    )


def make_update(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    mesh: Mesh,
    shard: str = 'none',
    figures: Callable[[Any, Any], Figures] = lambda gradients, params: {},
    after_update: Callable[[Any, TrainState], Any] = lambda params, state: state.extra,
) -> StepFn:
    """One compiled step down the gradient of `loss_fn`: (state, batch) → (state, metrics).

    The metrics hold `loss`, those of `loss_fn`, `learning_rate`, and the norms over all arrays of
    the gradient, of the update and of the parameters that both belong to (`grad_norm`,
    `update_norm`, `param_norm`), each a float32 scalar.

    Args:
      loss_fn: (params, state, batch) → loss, (metrics, parts of the state that it replaces).
      optimizer: its updates are added to the parameters.
      schedule: of the optimiser, for the metrics.
      mesh: metrics are whole on each of its devices.
      shard: how the state lies on them, see `train.state.layout`.
      figures: further metrics, of `optimizer_figures`.
      after_update: (new params, state) → its new `extra`.
    """

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Figures]:
        where = layout(state, mesh, shard)
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        whole = jax.lax.with_sharding_constraint((state.params, state.extra), replicated(mesh))
        params, state = whole[0], dataclasses.replace(state, extra=whole[1])
        (loss, (metrics, changed)), grads = gradient(params, state, batch)
        if shard != 'none':  # each device updates its part
            parts = jax.tree.map(lambda x: cut(mesh, x.shape), grads)
            grads = jax.lax.with_sharding_constraint(grads, parts)
        with jax.named_scope('optimizer'):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        with jax.named_scope('norms'):
            of = {'grad': grads, 'update': updates, 'param': state.params}
            norms = {f'{name}_norm': optax.tree.norm(tree) for name, tree in of.items()}
            norms |= figures(grads, state.params)
        metrics = {'loss': loss, **metrics, **norms, 'learning_rate': schedule(state.step)}
        changed |= {'step': state.step + 1, 'params': params, 'opt_state': opt_state}
        state = dataclasses.replace(state, **changed)
        state = dataclasses.replace(state, extra=after_update(params, state))
        return jax.lax.with_sharding_constraint(state, where), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=(None, replicated(mesh)),
        compiler_options=compilation.options(mesh),
    )


def start(
    method: Method,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    about: Mapping[str, Any],
) -> tuple[TrainState, str]:
    """The newest good checkpoint of this run; else fresh parameters, or those of `init_from`.

    The text says what was taken from `init_from`, by name and shape.

    Args:
      about: what is kept beside the checkpoints.

    Raises:
      InputError: the data are not those that the run began with, or `init_from` does not fit.
    """
    config, mesh, shard = method.config, method.mesh, method.config.compute.shard
    shape = {'image_size': config.image_size, 'mesh': mesh, 'shard': shard}
    target = abstract_state(method.network, optimizer, **shape, extra=method.init)

    def read(step: int) -> TrainState:
        if checkpoints.about(step)['data'] != about['data']:
            raise InputError(
                f'{checkpoints.folder}: the manifest has changed since this run began; '
                'choose another --workdir'
            )
        return checkpoints.restore(step, target)

    if (found := checkpoints.newest(read)) is not None:
        log.info('resuming at step %d', found[0])
        return found[1], ''
    source = None
    if config.init_from:
        source = init_from.load(config.init_from, config.init_prefix)
        init_from.check_settings(source, config)
    state, report = initial_state(method.network, optimizer, seed=config.seed, **shape), ''
    if source is not None:
        state, taken = init_from.apply(state, source, method.parts)
        report = taken.report()
    return with_extra(state, method.init, mesh, shard), report


def log_size(state: TrainState, plan: Plan, *, images: int, epoch: int) -> None:
    """A line on how much there is to do, and one on where the parameters are."""
    log.info(
        '%d images, %d examples an epoch, %d steps of %d',
        images,
        epoch,
        plan.total,
        plan.images_per_step,
    )
    parts = {
        f'{name}/{part}': count({part: inner}) / 1e6
        for name, of_name in state.params.items()
        for part, inner in of_name.items()
    }
    largest = sorted(parts, key=lambda name: -parts[name])[:_LARGEST]
    listed = ', '.join(f'{name} {parts[name]:.2f}M' for name in largest)
    total = count(state.params) / 1e6
    log.info('%.1fM parameters: %s, all in WORKDIR/%s', total, listed, PARAMETERS)


def parameter_table(state: TrainState) -> str:
    """Name, shape, dtype and size of each parameter, and their sum."""
    return parameter_overview.get_parameter_overview(state.params, include_stats=False) + '\n'
