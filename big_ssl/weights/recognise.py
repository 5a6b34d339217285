"""Whose weights a file holds, by the names in it."""

from big_ssl import models
from big_ssl.errors import InputError
from big_ssl.models.naming import Match
from big_ssl.weights.files import File


def recognise(file: File, prefix: str | None = None) -> Match:
    """The match of the file's names.

    Args:
      prefix: of the names of a network, where the file holds several networks.

    Raises:
      InputError: none is known, or the network is of a kind that is not here.
    """
    known = [names for backbone in models.names() for names in models.load(backbone).NAMES]
    try:
        for names in known:
            if (match := names.recognise(file.arrays, prefix)) is not None:
                return match
    except ValueError as error:
        raise InputError(f'init_from: {file.path}: {error}') from None
    listed = ', '.join(f'{names.whose} ({names.example})' for names in known)
    some = ', '.join(list(file.arrays)[:3])
    raise InputError(
        f'init_from: {file.path}: none of the names of {listed} are in it, but {some} …'
    )
