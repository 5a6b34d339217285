"""Starting from the weights of an earlier run of big_ssl, or from those that others published."""

import dataclasses
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
from etils import epath
from flax import traverse_util
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl import earlier_configs
from big_ssl.errors import InputError
from big_ssl.files import CHECKPOINTS
from big_ssl.models import naming
from big_ssl.models.naming import Arrays, Match
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.state import TrainState
from big_ssl.weights import files
from big_ssl.weights.match import Taken, take
from big_ssl.weights.recognise import recognise

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights to start from.

    Attributes:
      origin: the workdir or the file, as given.
      arrays: reads them, by their names there.
      match: of those names.
      settings: of the network that they fit, by keys of the config; of a run, its whole config.
      guessed: those of `settings` that neither the names nor the file tell, only custom.
      about: what a run saved beside them; of a file, `trained_on` alone.
      step: at which a run saved them; None of a file.
    """

    origin: str
    arrays: Callable[[], Arrays]
    match: Match
    settings: dict[str, Any]
    guessed: frozenset[str]
    about: dict[str, Any]
    step: int | None

    def take(self, variables: Mapping[str, Any], parts: tuple[str, ...]) -> Taken:
        """Parts of a network of these variables; see `weights.match.take`."""
        return take(self.origin, self.arrays(), self.match, variables, parts)

    def take_all(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """All of a network of these variables, of which nothing may be missing."""
        parts = dict.fromkeys(part for tree in variables.values() for part in tree)
        taken = self.take(variables, tuple(parts))
        if taken.initial:
            name, _, why = taken.initial[0]
            raise InputError(f'init_from: {self.origin} has no {name.split("/")[0]}: {why}')
        return taken.variables


def load(origin: str, prefix: str | None = None) -> Source:
    """Weights of a workdir, of one of its checkpoints, or of a file.

    A workdir gives its best checkpoint on validation, or its newest if none was judged.

    Args:
      origin: WORKDIR, WORKDIR/checkpoints/STEP, or what `weights.files.read` reads.
      prefix: of the names of a network, where a file holds several.

    Raises:
      InputError: there are none, or not of a network that is known here.
    """
    path = epath.Path(origin)
    if path.parent.name == CHECKPOINTS and path.name.isdigit():
        return _of_run(origin, path.parent.parent, int(path.name))
    if files.is_tensorflow(path) or path.suffix and not path.is_dir():
        return _of_file(origin, prefix)
    return _of_run(origin, path)


def settle(config: ConfigDict, workdir: str, given: Collection[str] = ()) -> None:
    """Makes the encoder of a training that of the weights of `init_from`, and says so.

    What the command line gives stays, and `check_settings` compares it with the weights. Keys that
    are `auto` get the value that the weights need, or that of a network from scratch. A run that
    has begun keeps the encoder that it began with.

    Args:
      config: changed in place.
      given: keys of the command line.

    Raises:
      InputError: as `load`.
    """
    source: Source | None = None
    guessed, known = frozenset[str](), config_lib.flat(workdir_lib.config_of(workdir))
    if config.init_from and not known:
        source = load(config.init_from, config.init_prefix)
        known, guessed = source.settings, source.guessed
    taken = {}
    ours = 'model.name' in given and config.model.name != known.get('model.name')
    if config.init_from and known and config.task in config_lib.TRAINING and not ours:
        keys = config_lib.of_encoder(known['model.name'])
        taken = config_lib.take(
            config, known, [key for key in keys if key not in guessed.union(given)]
        )
    changed = {*taken, *config_lib.close(config, known)}
    if source is not None and changed:
        in_order = [key for key in config_lib.of_encoder(config.model.name) if key in changed]
        listed = ' '.join(f'{key}={config_lib.get(config, key)}' for key in in_order)
        log.info('%s, %s', listed, _why(source, changed))


def check_settings(source: Source, config: ConfigDict, further: Sequence[str] = ()) -> None:
    """Compares the encoder that the weights are of, and `further` keys, with ours.

    Raises:
      InputError: they differ; the message gives the flags that make them equal.
    """
    theirs, ours = source.settings, config_lib.flat(config)
    of_encoder = config_lib.of_encoder(theirs.get('model.name', config.model.name))
    wrong = [
        key
        for key in (*of_encoder, *further)
        if key in theirs and key not in source.guessed and theirs[key] != ours.get(key)
    ]
    if wrong:
        flags = ' '.join(f'--config.{key}={theirs[key]}' for key in wrong)
        kind = f'holds another network ({source.match.family})'
        if source.step is not None:
            kind = 'was trained with other settings'
        raise InputError(f'init_from: {source.origin} {kind}; to use it: {flags}')


def apply(state: TrainState, source: Source, parts: tuple[str, ...]) -> tuple[TrainState, Taken]:
    """`state` with the given first-level parts of the network taken from `source`.

    A part other than the encoder that it does not have, or has in another size, stays as it is,
    and a line says so.

    Raises:
      InputError: the encoder does not fit.
    """
    ours = {'params': state.params, 'batch_stats': state.batch_stats}
    taken = source.take(ours, parts)
    _tell(source, taken, parts)
    new = traverse_util.flatten_dict(taken.variables)
    placed = {
        path: jax.device_put(new[path], old.sharding) if path in new else old
        for path, old in traverse_util.flatten_dict(ours).items()
    }
    return dataclasses.replace(state, **traverse_util.unflatten_dict(placed)), taken


def _tell(source: Source, taken: Taken, parts: tuple[str, ...]) -> None:
    numbers = sum(math.prod(shape) for _, _, shape in taken.loaded)
    log.info(
        'init_from: %d arrays, %.1fM numbers, of %s: %s',
        len(taken.loaded),
        numbers / 1e6,
        source.origin,
        source.match.family,
    )
    afresh = {name.split('/')[0]: why for name, _, why in taken.initial}
    for part, why in afresh.items():
        if part in parts:
            log.warning('init_from: %s starts afresh: %s', part, why)
    if source.step is None and taken.unused:
        some = ', '.join(f'{name} {shape}' for name, shape in taken.unused[:4])
        more = f' and {len(taken.unused) - 4} more' if len(taken.unused) > 4 else ''
        log.info('init_from: not used of that file: %s%s', some, more)


def _of_file(origin: str, prefix: str | None) -> Source:
    file = files.read(origin)
    match = recognise(file, prefix)
    choices = config_lib.open_keys(match.settings['model.name'])
    # Exports of earlier versions say these of every network.
    former = earlier_configs.OF_ONE_BACKBONE - choices.keys()
    said = {key: value for key, value in file.settings.items() if key not in former}
    for key, value in said.items():
        if value not in choices.get(key, ()):
            raise InputError(f'init_from: {origin}: its metadata say {key}={value}, not known here')
    trained_on = {
        'trained_on/weights': origin,
        'trained_on/family': match.family,
        'trained_on/sha256': file.sha256,
    }
    return Source(
        origin=origin,
        arrays=lambda: file.arrays if match.arrays is None else match.arrays,
        match=match,
        settings=match.usual | match.settings | said,
        guessed=frozenset(match.usual) - frozenset(said),
        about={'trained_on': trained_on},
        step=None,
    )


def _of_run(origin: str, workdir: epath.Path, step: int | None = None) -> Source:
    checkpoints = Checkpoints(workdir, read_only=True)
    if step is None:
        step = checkpoints.best()
    if step is None:
        step = checkpoints.latest()
    if step is None:
        raise InputError(f'init_from: {workdir} has no finished checkpoint')
    chosen = step

    def arrays() -> Arrays:
        log.info('weights from %s, step %d', checkpoints.folder, chosen)
        return traverse_util.flatten_dict(checkpoints.weights(chosen), sep='/')

    about = checkpoints.about(chosen)
    settings = config_lib.flat(earlier_configs.up_to_date(about.get('config', {})))
    return Source(origin, arrays, naming.own(settings), settings, frozenset(), about, chosen)


def _why(source: Source, keys: Iterable[str]) -> str:
    if source.step is not None:
        return f'as in {source.origin}'
    if source.guessed.isdisjoint(keys):
        return f'as {source.origin} says'
    return (
        f'as is usual for a {source.match.family}; was {source.origin} trained otherwise, say so '
        'by these keys'
    )
