"""Rooms that a user adds to: a module there, or one of the user's own by its dotted name."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from big_ssl import heap
from big_ssl.errors import InputError
from big_ssl.keys import nearest


def load(
    room: str, key: str, name: str, *, known: Sequence[str], parts: Sequence[str]
) -> ModuleType:
    """The module `ROOM.NAME`, or one that can be imported as NAME from where the command is run.

    Args:
      room: a package.
      key: of the config, that names the module.
      known: names of the modules in the room.
      parts: what the module must have.

    Raises:
      InputError: there is no such module, or it lacks a part.
    """
    own = name in known
    if not own and '' not in sys.path:
        sys.path.insert(0, '')  # where the command is run, as with python -m
    try:
        with heap.not_searched():
            module = importlib.import_module(f'{room}.{name}' if own else name)
    except ImportError as error:
        if error.name and not name.startswith(error.name):
            raise InputError(f'config: {key}={name}: {error}') from None
        raise InputError(
            f'config: {key}={name} is none of {", ".join(known)}, nor a module that can be '
            f'imported from here{nearest(name, known)}'
        ) from None
    if missing := [part for part in parts if not hasattr(module, part)]:
        raise InputError(
            f'config: {key}={name}: {module.__file__} has no {", ".join(missing)}; '
            f'{room.replace(".", "/")}/__init__.py says what it must have'
        )
    return module
