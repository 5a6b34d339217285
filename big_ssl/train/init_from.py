"""Starting from the weights of an earlier run."""

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.errors import InputError
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """An earlier run's weights.

    Attributes:
      workdir: of that run.
      weights: `params` and `batch_stats`, nested dictionaries of NumPy arrays.
      about: what was saved beside them, the run's `config` among it.
      step: at which they were saved.
    """

    workdir: str
    weights: dict[str, Any]
    about: dict[str, Any]
    step: int


def load(workdir: str) -> Source:
    """The weights of a run's best checkpoint on validation, or of its newest if none was judged.

    Raises:
      InputError: there is no checkpoint.
    """
    checkpoints, step = _chosen(workdir)
    log.info('weights from %s, step %d', checkpoints.folder, step)
    return Source(workdir, checkpoints.weights(step), checkpoints.about(step), step)


def about(workdir: str) -> tuple[dict[str, Any], int]:
    """What was saved beside the weights that `load` takes, and their step; raises as `load`."""
    checkpoints, step = _chosen(workdir)
    return checkpoints.about(step), step


def _chosen(workdir: str) -> tuple[Checkpoints, int]:
    checkpoints = Checkpoints(epath.Path(workdir), read_only=True)
    step = checkpoints.best()
    step = checkpoints.latest() if step is None else step
    if step is None:
        raise InputError(f'init_from: {workdir} has no finished checkpoint')
    return checkpoints, step


def check_settings(source: Source, config: ConfigDict, keys: tuple[str, ...]) -> None:
    """Compares settings of the run that made the weights with ours.

    Raises:
      InputError: they differ; the message gives the flags that make them equal.
    """
    theirs = ConfigDict(source.about['config'])
    wrong = [key for key in keys if config_lib.get(theirs, key) != config_lib.get(config, key)]
    if wrong:
        flags = ' '.join(f'--config.{key}={config_lib.get(theirs, key)}' for key in wrong)
        raise InputError(
            f'init_from: {source.workdir} was trained with other settings; to use it: {flags}'
        )


def apply(state: TrainState, source: Source, parts: tuple[str, ...]) -> TrainState:
    """`state` with the given first-level parts of the network taken from `source`.

    A part other than the encoder that it does not have, or has in another size, stays as it is,
    and a line says so.

    Raises:
      InputError: the encoder does not fit.
    """
    trees = {'params': dict(state.params), 'batch_stats': dict(state.batch_stats)}
    for part in parts:
        problem = _mismatch(trees, source.weights, part)
        if problem and part == 'encoder':
            raise InputError(f'init_from: {source.workdir} holds another architecture: {problem}')
        if problem:
            log.warning('init_from: %s starts afresh: %s', part, problem)
            continue
        for name, tree in trees.items():
            if part in tree:
                tree[part] = jax.tree.map(
                    lambda old, new: jax.device_put(new, old.sharding),
                    tree[part],
                    source.weights[name][part],
                )
    return dataclasses.replace(state, params=trees['params'], batch_stats=trees['batch_stats'])


def _mismatch(trees: dict[str, Any], weights: dict[str, Any], part: str) -> str:
    for name, tree in trees.items():
        ours = _shapes(tree.get(part, {}))
        theirs = _shapes(weights[name].get(part, {}))
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                return (
                    f'{part}/{key} is {theirs.get(key, "not there")}, '
                    f'here {ours.get(key, "not there")}'
                )
    return ''


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {key: np.shape(leaf) for key, leaf in traverse_util.flatten_dict(tree, sep='/').items()}
