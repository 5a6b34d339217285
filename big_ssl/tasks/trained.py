"""Trained networks, ready to be applied to images."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.augment.simclr import to_float
from big_ssl.data.images import ImageTable
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.losses.classification import three_way_probabilities
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, inference, provenance
from big_ssl.train import init_from
from big_ssl.train import mesh as mesh_lib
from big_ssl.train.compilation import whole

log = logging.getLogger(__name__)


def take_over(config: ConfigDict, given: frozenset[str]) -> None:
    """Sets what must be, or had better be, as in the training that made the weights of `init_from`.

    Args:
      config: of a run that trains nothing, changed in place.
      given: keys of the command line, which are left as they are.

    Raises:
      InputError: `init_from` holds no checkpoint.
    """
    source = init_from.load(config.init_from, config.init_prefix)
    if taken := agree(config, given, source.settings):
        log.info('as in %s: %s', config.init_from, ' '.join(taken))


def agree(config: ConfigDict, given: frozenset[str], theirs: Mapping[str, Any]) -> list[str]:
    """As `take_over`, from the settings of the weights; returns what was set, as KEY=VALUE."""
    judges = config.task != 'embed' and config.classifier == 'trained'
    of_encoder = config_lib.of_encoder(theirs.get('model.name', config.model.name))
    keys = (*of_encoder, *config_lib.OF_IMAGES, *(config_lib.OF_CLASSIFIER if judges else ()))
    taken = config_lib.take(config, theirs, [key for key in keys if key not in given])
    return [f'{key}={value}' for key, value in taken.items()]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A classifier and what it was trained on.

    Attributes:
      task: its classes.
      probabilities: rows of an image table to [n, k], in order.
      seen: `trained_on/…`.
    """

    task: Task
    probabilities: Callable[[ImageTable, Int[np.ndarray, ' n']], Float[np.ndarray, 'n k']]
    seen: dict[str, Any]


def load_classifier(
    config: ConfigDict, mesh: Mesh, should_stop: Callable[[], bool] | None = None
) -> Classifier:
    """The classifier of `init_from`.

    Raises:
      InputError: there is none, or it was trained with other settings.
    """
    if not config.init_from:
        raise InputError(
            f'config: task={config.task} needs --config.init_from=WORKDIR of a fine-tuning'
        )
    source = init_from.load(config.init_from, config.init_prefix)
    if 'task' not in source.about:
        raise InputError(f'init_from: {config.init_from} has no classifier; fine-tune it first')
    init_from.check_settings(source, config, config_lib.OF_IMAGES)
    task = task_of(source.about)
    network = ClassifierNetwork(build.make_encoder(config), task.outputs)
    forward = make_forward(network, task, mesh)
    shapes = jax.eval_shape(functools.partial(initial, config, network))
    weights = mesh_lib.copy(source.take_all(shapes), mesh)
    statistics = weights.get('batch_stats', {})
    of_weights = functools.partial(forward, weights['params'], statistics)

    def of_rows(table: ImageTable, rows: np.ndarray) -> np.ndarray:
        found = inference.over_images(config, table, rows, of_weights, mesh, should_stop)
        return found['probabilities']

    return Classifier(task, of_rows, provenance.at_step(source.about, source.step))


def task_of(about: Mapping[str, Any]) -> Task:
    """The classes, from what a fine-tuning saves beside its weights."""
    return Task(**{**about['task'], 'classes': tuple(about['task']['classes'])})


def probabilities(logits: Float[Array, 'n outputs'], task: Task) -> Float[Array, 'n k']:
    """Of each class, by the kind of the task."""
    if task.uncertain_class:
        return three_way_probabilities(logits)
    return jax.nn.sigmoid(logits) if task.multilabel else jax.nn.softmax(logits)


def make_forward(network: nn.Module, task: Task, mesh: Mesh) -> Callable[..., Any]:
    """(params, batch_stats, uint8 images) → probabilities, compiled, whole on every device."""

    @whole(mesh)
    def forward(params: Any, batch_stats: Any, images: jax.Array) -> dict[str, jax.Array]:
        variables = {'params': params, 'batch_stats': batch_stats}
        out: Any = network.apply(variables, to_float(images), train=False)
        return {'probabilities': probabilities(out['logits'], task)}

    return forward


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An encoder and what it was trained on.

    Attributes:
      features: rows of an image table to [n, features], in order.
      seen: `trained_on/…`; nothing where the weights are random.
    """

    features: Callable[[ImageTable, Int[np.ndarray, ' n']], Float[np.ndarray, 'n d']]
    seen: dict[str, Any]


def load_encoder(
    config: ConfigDict, mesh: Mesh, should_stop: Callable[[], bool] | None = None
) -> Encoder:
    """The encoder of `init_from`, whatever trained it; random weights where none is named.

    Raises:
      InputError: it has another architecture.
    """
    encoder = build.make_encoder(config)
    seen: dict[str, Any] = {'trained_on/init_from': 'random initialisation'}
    if config.init_from:
        source = init_from.load(config.init_from, config.init_prefix)
        init_from.check_settings(source, config)
        seen = provenance.at_step(source.about, source.step)
        shapes = jax.eval_shape(functools.partial(initial, config, encoder))
        weights = source.take_all({name: {'encoder': tree} for name, tree in shapes.items()})
        variables = {name: tree['encoder'] for name, tree in weights.items()}
    else:
        variables = initial(config, encoder)
    variables = mesh_lib.copy(jax.tree.map(np.asarray, variables), mesh)

    @whole(mesh)
    def embed(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        features: Any = encoder.apply(variables, to_float(images), train=False)
        return {'features': features}

    def features(table: ImageTable, rows: np.ndarray) -> np.ndarray:
        of_weights = functools.partial(embed, variables)
        found = inference.over_images(config, table, rows, of_weights, mesh, should_stop)
        return found['features']

    return Encoder(features, seen)


def initial(config: ConfigDict, network: nn.Module) -> dict[str, Any]:
    one = jnp.zeros((1, config.image_size, config.image_size, 3))
    return dict(network.init(jax.random.key(config.seed), one, train=False))
