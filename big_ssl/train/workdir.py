"""The folder of a run: whose it is, and its small files, each written whole or not at all."""

import contextlib
import errno
import importlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl import earlier_configs, processes
from big_ssl.errors import InputError
from big_ssl.files import CONFIG, DIVERGED, is_remote

log = logging.getLogger(__name__)

_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
             errno.EFBIG, errno.ESTALE}  # fmt: skip
_PATIENCE = 5.0  # seconds that a killed run may take to be gone


def claim(workdir: str, config: dict[str, Any]) -> epath.Path:
    """The folder, made if need be, after checking that it is no other run's.

    Raises:
      InputError: it holds another config, or cannot be made.
    """
    folder = epath.Path(workdir)
    check_reachable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f'{folder}: cannot be used as a workdir: {error}') from None
    if not (theirs := config_of(workdir)):
        return folder
    ours = earlier_configs.up_to_date(_plain(config))
    for each in (ours, theirs):
        each.pop('compute', None)  # changes how, not what
        if each.get('task') not in config_lib.TRAINING:
            each.pop('method', None)
    if found := config_lib.differences(ours, theirs):
        raise InputError(
            f'{folder / CONFIG}: the workdir holds another config: {", ".join(found[:3])}'
            f'{f" and {len(found) - 3} more" if len(found) > 3 else ""}; '
            'choose another --workdir'
        )
    return folder


def config_of(workdir: str) -> dict[str, Any]:
    """The config of the run that a folder holds, as this version would have stored it; nothing
    where none has begun.

    Raises:
      InputError: it cannot be read.
    """
    stored = _stored(workdir)
    return earlier_configs.up_to_date(stored) if stored else {}


def keep_as_begun(config: ConfigDict, workdir: str, given: Collection[str]) -> None:
    """Sets keys that are younger than the run in a folder to what was done then, and says so.

    Args:
      config: changed in place.
      given: keys of the command line, which are left as they are.

    Raises:
      InputError: the folder's config cannot be read.
    """
    stored = _stored(workdir)
    if stored and (changed := earlier_configs.go_on(config, stored, given)):
        log.info('%s, as in the version that began this run', ' '.join(changed))


def _stored(workdir: str) -> dict[str, Any]:
    path = epath.Path(workdir) / CONFIG
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f'{workdir}: cannot be used as a workdir: {error}') from None


def check_reachable(folder: epath.Path) -> None:
    """Raises InputError where a package is missing that checkpoints in a bucket need."""
    if is_remote(folder):
        try:
            importlib.import_module('google.cloud.storage')  # as orbax does
        except ImportError:
            raise InputError(f"{folder}: needs pip install 'big_ssl[gcs]'") from None


@contextlib.contextmanager
def held(folder: epath.Path) -> Iterator[None]:
    """Keeps other runs out of a workdir for as long as this job lives.

    Process 0 holds the lock, and all hear of it. A dead run leaves none behind.

    Raises:
      InputError: another run is at work there.
    """
    message = (
        f'{folder}: another run is at work in this workdir; wait until it has ended, or choose '
        'another --workdir'
    )
    with contextlib.ExitStack() as stack:
        free = True
        if jax.process_index() == 0:
            try:
                stack.enter_context(processes.alone(folder, message, _PATIENCE))
            except InputError as error:
                free, message = False, str(error)
        if jax.process_count() > 1:
            free = bool(multihost_utils.broadcast_one_to_all(np.array(free)))
        if not free:
            raise InputError(message)
        yield


@contextlib.contextmanager
def on_a_sound_disk(folder: epath.Path) -> Iterator[None]:
    """Raises InputError in place of what the system says of a full, read-only or failing disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_DISKS:
            raise
        raise InputError(
            f'{error.filename or folder}: {error.strerror}; earlier checkpoints are kept: run the '
            'same command again when that is mended'
        ) from error


def of_disk(error: Exception, folder: epath.Path) -> OSError | None:
    """The OSError that an error of another library tells of in the system's words, if it does."""
    for code in _OF_DISKS:
        if (said := os.strerror(code)) in str(error):
            return OSError(code, said, str(folder))
    return None


def begin(
    folder: epath.Path, config: dict[str, Any], files: Mapping[str, str] | None = None
) -> None:
    """Writes `config.json`, once all input has been checked: a wrong input claims no folder.

    Args:
      files: further ones to write first, by name; an empty one is not written.

    Raises:
      InputError: the folder cannot be written to.
    """
    if jax.process_index() == 0 and not (folder / CONFIG).exists():
        try:
            for name, content in (files or {}).items():
                if content:
                    write(folder / name, content)
            write(folder / CONFIG, json.dumps(_plain(config), indent=2))
        except OSError as error:
            raise InputError(f'{folder}: cannot be used as a workdir: {error}') from None


def record_divergence(folder: epath.Path, message: str) -> None:
    """Writes `diverged.json`, by which a study knows that running again does not help."""
    if jax.process_index() == 0:
        write(folder / DIVERGED, json.dumps({'message': message}))


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config))


def write(path: epath.Path, content: str | bytes) -> None:
    """Replaces a file in one step."""
    temporary = path if is_remote(path) else path.parent / f'.{path.name}.writing'
    if isinstance(content, str):
        temporary.write_text(content)
    else:
        temporary.write_bytes(content)
    if temporary != path:  # an object of a bucket is whole or not there
        temporary.replace(path)
