"""The folder of a run: whose it is, and its small files, each written whole or not at all."""

import json
from typing import Any

import jax
from etils import epath

from big_ssl import config as config_lib
from big_ssl.errors import InputError

CONFIG, RESULT, METRICS = 'config.json', 'result.json', 'metrics.jsonl'
CHECKPOINTS = 'checkpoints'


def claim(workdir: str, config: dict[str, Any]) -> epath.Path:
    """Makes the folder the run's own, or finds that it already is.

    A folder in which nothing was trained or judged yet, because the input was wrong, say, may
    change its config.

    Raises:
      InputError: it holds another config, or cannot be written.
    """
    folder = epath.Path(workdir)
    ours, theirs = json.loads(json.dumps(config)), None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CONFIG).exists():
            theirs = json.loads((folder / CONFIG).read_text())
            found = config_lib.differences(ours, theirs)
            if found and _begun(folder):
                raise InputError(
                    f'{folder / CONFIG}: the workdir holds another config: {", ".join(found[:3])}'
                    f'{f" and {len(found) - 3} more" if len(found) > 3 else ""}; '
                    'choose another --workdir'
                )
        if theirs != ours and jax.process_index() == 0:
            write(folder / CONFIG, json.dumps(ours, indent=2))
    except (OSError, ValueError) as error:
        raise InputError(f'{folder}: cannot be used as a workdir: {error}') from None
    return folder


def _begun(folder: epath.Path) -> bool:
    files = any((folder / name).exists() for name in (METRICS, RESULT))
    return files or any((folder / CHECKPOINTS).glob('[0-9]*'))


def write(path: epath.Path, content: str | bytes) -> None:
    """Replaces a file in one step."""
    temporary = path.parent / f'.{path.name}.writing'
    if isinstance(content, str):
        temporary.write_text(content)
    else:
        temporary.write_bytes(content)
    temporary.replace(path)
