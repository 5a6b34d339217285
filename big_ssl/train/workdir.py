"""The folder of a run: whose it is, and its small files, each written whole or not at all."""

import json
from typing import Any

import jax
from etils import epath

from big_ssl import config as config_lib
from big_ssl.errors import InputError
from big_ssl.files import CONFIG, DIVERGED


def claim(workdir: str, config: dict[str, Any]) -> epath.Path:
    """The folder, made if need be, after checking that it is no other run's.

    Raises:
      InputError: it holds another config, or cannot be made.
    """
    folder = epath.Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / CONFIG).exists():
            return folder
        theirs = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f'{folder}: cannot be used as a workdir: {error}') from None
    ours = _plain(config)
    for each in (ours, theirs):
        each.pop('compute', None)  # changes how, not what
    if found := config_lib.differences(ours, theirs):
        raise InputError(
            f'{folder / CONFIG}: the workdir holds another config: {", ".join(found[:3])}'
            f'{f" and {len(found) - 3} more" if len(found) > 3 else ""}; '
            'choose another --workdir'
        )
    return folder


def begin(folder: epath.Path, config: dict[str, Any]) -> None:
    """Writes `config.json`, once all input has been checked: a wrong input claims no folder.

    Raises:
      InputError: the folder cannot be written to.
    """
    if jax.process_index() == 0 and not (folder / CONFIG).exists():
        try:
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
    temporary = path.parent / f'.{path.name}.writing'
    if isinstance(content, str):
        temporary.write_text(content)
    else:
        temporary.write_bytes(content)
    temporary.replace(path)
