"""Saving and restoring the training state, by orbax, with a checksum for every array.

A checkpoint is complete or it is not there. A byte that changed on disk since would restore
silently: the checksums turn that into an error. Writing goes on in threads while training does:
what they write are arrays on the host, taken before `save` returns.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as managers

from big_ssl.errors import InputError
from big_ssl.files import CHECKPOINTS, is_remote
from big_ssl.train import distributed
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.state import TrainState

log = logging.getLogger(__name__)

T = TypeVar('T')


class Damaged(InputError):
    """A checkpoint is not what was saved."""


class _JsonLater(ocp.JsonCheckpointHandler):
    """JSON of what a function returns, which is called in the thread that writes it."""

    async def _save_fn(self, x: Callable[[], Any], directory: epath.Path) -> None:
        await super()._save_fn(x(), directory)


@ocp.args.register_with_handler(_JsonLater, for_save=True)
@dataclasses.dataclass
class _SaveLater(ocp.args.CheckpointArgs):
    item: Callable[[], Any]


@ocp.args.register_with_handler(_JsonLater, for_restore=True)
@dataclasses.dataclass
class _RestoreJson(ocp.args.CheckpointArgs):
    item: None = None


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep`, and the best by validation.

    Every method waits for what `save` began before, and raises InputError where it failed.

    Attributes:
      folder: `WORKDIR/checkpoints`.
    """

    def __init__(self, workdir: epath.Path, *, keep: int = 1, read_only: bool = False) -> None:
        workdir_lib.check_reachable(workdir)
        folder = workdir / CHECKPOINTS
        self.folder = folder if is_remote(folder) else folder.resolve()  # orbax wants it absolute
        if read_only and not self.folder.exists():
            raise InputError(
                f'{workdir}: no checkpoints there; is it the workdir of a big_ssl run?'
            )
        best = managers.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        policy = managers.AnyPreservationPolicy([managers.LatestN(n=keep), best])
        options = ocp.CheckpointManagerOptions(
            best_fn=_score,  # without it orbax does not write the scores down
            preservation_policy=policy,
            read_only=read_only,
            create=not read_only,
        )
        self._saving: int | None = None
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=('state', 'about')
            )
        except ValueError as error:  # of json
            raise InputError(f'{self.folder}: the scores cannot be read: {error}') from error

    def save(self, state: TrainState, about: Mapping[str, Any], score: float | None = None) -> None:
        """Begins to write a checkpoint of `state.step`; a step that is there is left alone.

        The state may be given up to a step at once: orbax and the checksums hold its arrays on the
        host, on a CPU in the device's own memory, which JAX then does not use again for another
        array. So a second state is held until all is written. Arrays that lie in parts on several
        processes are gathered before it returns.

        Args:
          state: in any layout.
          about: plain JSON data kept beside it (config, classes, data fingerprint).
          score: on validation, higher is better; the best is never deleted.

        Raises:
          InputError: there is no room, or no right to write; earlier checkpoints are kept.
        """
        step = int(state.step)
        self.wait()
        if step in self._manager.all_steps():
            return
        stored, begun = _stored(state), threading.Event()
        on_host = mesh_lib.fetch(stored)

        def described() -> dict[str, Any]:
            begun.wait()  # the step loop does
            return {'about': about, 'checksums': {**_checksums(on_host), 'about': _checksum(about)}}

        args = ocp.args.Composite(state=ocp.args.StandardSave(stored), about=_SaveLater(described))
        metrics = None if score is None else {'score': score}
        self._saving = step
        try:
            with self._saved():
                self._manager.save(step, args=args, metrics=metrics, force=True)
        finally:
            begun.set()

    def wait(self) -> None:
        """Returns when the checkpoint that was begun is complete.

        Raises:
          InputError: as `save`.
        """
        with self._saved():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _saved(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # of tensorstore
            if distributed.lost_others(error):
                raise
            raise InputError(
                f'{self.folder / str(self._saving)}: cannot be saved: {_one_line(error)}; earlier '
                'checkpoints are kept: run the same command again once there is room'
            ) from error

    def latest(self) -> int | None:
        """The newest step, None where there is no checkpoint."""
        self.wait()
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest score, None where none has one."""
        self.wait()
        scores = {
            step: (self._manager.metrics(step) or {}).get('score')
            for step in self._manager.all_steps()
        }
        scored = {step: score for step, score in scores.items() if score is not None}
        return max(scored, key=lambda step: (scored[step], step)) if scored else None

    def newest(self, read: Callable[[int], T]) -> tuple[int, T] | None:
        """The newest step that `read` can read, and what it gives; None where there is none.

        Damaged newer ones are put aside, into `WORKDIR/damaged`: the run writes them again.

        Raises:
          Damaged: none of them can be read; all are left where they are.
        """
        self.wait()
        passed: list[tuple[int, Damaged]] = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = read(step)
            except Damaged as error:
                passed.append((step, error))
                continue
            self._put_aside(passed)
            return step, found
        if passed:
            raise passed[0][1]
        return None

    def _put_aside(self, damaged: Sequence[tuple[int, Damaged]]) -> None:
        aside = self.folder.parent / 'damaged'
        for step, error in damaged:
            log.warning('%s; an earlier one is taken, this one put into %s', error, aside)
            if jax.process_index() == 0:
                aside.mkdir(exist_ok=True)
                if (aside / str(step)).exists():
                    (aside / str(step)).rmtree()
                (self.folder / str(step)).rename(aside / str(step))
        if damaged:
            multihost_utils.sync_global_devices('checkpoints put aside')
            self._manager.reload()

    def restore(self, step: int, target: TrainState) -> TrainState:
        """The state of `step`, laid out as `target` (arrays or their shapes and shardings).

        Raises:
          Damaged: it does not fit, or an array is not what was saved.
        """
        stored = self._read(step, 'state', ocp.args.StandardRestore(_stored(target)))
        self._verify(step, _checksums(mesh_lib.fetch(stored)))
        return dataclasses.replace(target, **stored)

    def weights(self, step: int) -> dict[str, Any]:
        """`params` and `batch_stats` of `step` as nested dictionaries of NumPy arrays.

        Raises:
          Damaged: an array is not what was saved.
        """
        tree = self._read(step, 'state', ocp.args.StandardRestore())
        picked = {name: tree[name] for name in ('params', 'batch_stats')}
        picked = jax.tree.map(np.asarray, picked)
        self._verify(step, _checksums(picked))
        return picked

    def about(self, step: int) -> dict[str, Any]:
        """What `save` was given beside the state.

        Raises:
          Damaged: it is not what was saved.
        """
        about = self._read(step, 'about', _RestoreJson()).get('about')
        self._verify(step, {'about': _checksum(about)})
        return about

    def _read(self, step: int, item: str, how: ocp.args.CheckpointArgs) -> Any:
        self.wait()
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception as error:  # orbax and tensorstore raise many kinds
            if distributed.lost_others(error):
                raise
            reason = _one_line(error)
            raise Damaged(f'{self.folder / str(step)}: cannot be restored: {reason}') from error

    def _verify(self, step: int, found: dict[str, int]) -> None:
        saved = self._read(step, 'about', _RestoreJson()).get('checksums', {})
        damaged = [name for name, checksum in found.items() if saved.get(name) != checksum]
        if damaged:
            raise Damaged(
                f'{self.folder / str(step)}: {damaged[0]} is not what was saved '
                f'({len(damaged)} of {len(found)} arrays)'
            )


def _stored(state: TrainState) -> dict[str, Any]:
    """The parts of a state, as they lie on disk: one without arrays (`extra`) is left out."""
    parts = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: part for name, part in parts.items() if name != 'extra' or jax.tree.leaves(part)}


def _one_line(error: Exception) -> str:
    """The system's own words where it has some, else the first of a long message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = ' '.join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)  # of tensorstore
    return os.strerror(int(code[1])) if code else text[:300]


def _score(metrics: Mapping[str, float]) -> float:
    return metrics['score']


def _checksum(about: Any) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every leaf, a NumPy array, by its path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): zlib.crc32(
            np.ascontiguousarray(leaf).data
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
