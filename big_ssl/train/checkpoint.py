"""Saving and restoring the training state, by orbax, with a checksum for every array.

A checkpoint is complete or it is not there. A byte that changed on disk since would restore
silently: the checksums turn that into an error.
"""

import json
import logging
import os
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
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


class Checkpoints:
    """The checkpoints of one workdir: the newest `keep`, and the best by validation.

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
            enable_async_checkpointing=False,
            read_only=read_only,
            create=not read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_names=('state', 'about')
            )
        except ValueError as error:  # of json
            raise InputError(f'{self.folder}: the scores cannot be read: {error}') from error

    def save(self, state: TrainState, about: Mapping[str, Any], score: float | None = None) -> None:
        """Writes a checkpoint of `state.step`; a step that is already there is left alone.

        Args:
          state: replicated on all devices.
          about: plain JSON data kept beside it (config, classes, data fingerprint).
          score: on validation, higher is better; the best is never deleted.

        Raises:
          InputError: there is no room, or no right to write; earlier checkpoints are kept.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            about=ocp.args.JsonSave(
                {'about': about, 'checksums': {**_checksums(state), 'about': _checksum(about)}}
            ),
        )
        metrics = None if score is None else {'score': score}
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            self._manager.save(step, args=args, metrics=metrics, force=True)
            sys.unraisablehook = hook  # else orbax's unfinished writers would complain until exit
        except (OSError, ValueError) as error:  # of tensorstore
            if distributed.lost_others(error):
                raise
            raise InputError(
                f'{self.folder / str(step)}: cannot be saved: {_one_line(error)}; earlier '
                'checkpoints are kept: run the same command again once there is room'
            ) from error

    def latest(self) -> int | None:
        """The newest step, None where there is no checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the highest score, None where none has one."""
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
        state = self._read(step, 'state', ocp.args.StandardRestore(target))
        self._verify(step, _checksums(state))
        return state

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
        about = self._read(step, 'about', ocp.args.JsonRestore()).get('about')
        self._verify(step, {'about': _checksum(about)})
        return about

    def _read(self, step: int, item: str, how: ocp.args.CheckpointArgs) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
        except Exception as error:  # orbax and tensorstore raise many kinds
            if distributed.lost_others(error):
                raise
            reason = _one_line(error)
            raise Damaged(f'{self.folder / str(step)}: cannot be restored: {reason}') from error

    def _verify(self, step: int, found: dict[str, int]) -> None:
        saved = self._read(step, 'about', ocp.args.JsonRestore()).get('checksums', {})
        damaged = [name for name, checksum in found.items() if saved.get(name) != checksum]
        if damaged:
            raise Damaged(
                f'{self.folder / str(step)}: {damaged[0]} is not what was saved '
                f'({len(damaged)} of {len(found)} arrays)'
            )


def _one_line(error: Exception) -> str:
    """The system's own words where it has some, else the first of a long message."""
    text = ' '.join(str(error).split())
    code = re.search(r"os_error_code='(\d+)'", text)  # of tensorstore
    return os.strerror(int(code[1])) if code else text[:300]


def _score(metrics: Mapping[str, float]) -> float:
    return metrics['score']


def _checksum(about: Any) -> int:
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every leaf by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)

    def data(leaf: Any) -> np.ndarray:
        return np.ascontiguousarray(mesh_lib.fetch(leaf) if isinstance(leaf, jax.Array) else leaf)

    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): zlib.crc32(data(leaf).data)
        for path, leaf in leaves
    }
