"""What lies in the folder of a downloaded data set, from listings alone.

Archives are unpacked in many ways: the published files lie in the folder itself, in a folder for
each part, or a level further down. So they are found by their published names, wherever they lie.
Each folder is listed once and no file is asked for by itself.
"""

import collections
import functools
import os
import re
from collections.abc import Iterable, Iterator

from etils import epath

from big_ssl.errors import InputError
from big_ssl.files import is_remote

_IMAGES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.dcm')
_Places = dict[str, list[str]]
_DEEPEST = 6  # folders within folders that are entered; links in a circle end there


def is_image(name: str) -> bool:
    """Whether a file is an image, by its name."""
    return name.lower().endswith(_IMAGES)


def join(*parts: str) -> str:
    """A path of these parts, the empty ones left out."""
    return '/'.join(filter(None, parts))


def listed(folder: str, leaf: re.Pattern[str] | None = None) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, each sorted, without hidden ones.

    Args:
      folder: local or anything `etils.epath` opens.
      leaf: a name that it matches is a folder's; remote folders are then not asked one by one.

    Raises:
      InputError: the folder cannot be listed.
    """
    try:
        kinds = dict(_remote(folder, leaf) if is_remote(folder) else _local(folder))
    except OSError as error:
        raise InputError(f'{folder}: cannot be listed: {error.strerror or error}') from None
    names = sorted(name for name in kinds if not name.startswith('.'))
    return [name for name in names if kinds[name]], [name for name in names if not kinds[name]]


def _local(folder: str) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name, entry.is_dir()


def _remote(folder: str, leaf: re.Pattern[str] | None) -> Iterator[tuple[str, bool]]:
    for entry in epath.Path(folder).iterdir():
        known = leaf is not None and leaf.fullmatch(entry.name) is not None
        yield entry.name, known or (not is_image(entry.name) and entry.is_dir())


class RawFolder:
    """The files of a data set by their names; it is walked through when first asked.

    Attributes:
      path: of the folder.
      announcements: what a person should be told, one line each.
    """

    def __init__(self, path: str, layout: str, leaf: str = '') -> None:
        """Takes a folder that is there.

        Args:
          path: local or anything `etils.epath` opens.
          layout: what should lie in it, for messages.
          leaf: pattern of the names of folders that are not entered, which `folders` gives.

        Raises:
          InputError: there is no such folder.
        """
        self.path = path.rstrip('/')
        self.announcements: list[str] = []
        self._layout = '; '.join(layout.splitlines())
        self._leaf = re.compile(leaf) if leaf else None
        if not epath.Path(path).is_dir():
            raise InputError(f'{path}: no such folder')

    @functools.cached_property
    def _places(self) -> tuple[_Places, _Places, _Places]:
        """Relative paths of images by their stems, of other files and of leaves by their names."""
        images: _Places = collections.defaultdict(list)
        files: _Places = collections.defaultdict(list)
        leaves: _Places = collections.defaultdict(list)
        waiting = ['']
        while waiting:
            folder = waiting.pop()
            names, inside = listed(join(self.path, folder), self._leaf)
            for name in inside:
                known = images[_stem(name)] if is_image(name) else files[name]
                known.append(join(folder, name))
            for name in reversed(names):
                if self._leaf and self._leaf.fullmatch(name):
                    leaves[name].append(join(folder, name))
                elif folder.count('/') < _DEEPEST:
                    waiting.append(join(folder, name))
        return images, files, leaves

    def table(self, *names: str) -> str:
        """Path of the first file of these names, gzipped or not; '' where there is none.

        Raises:
          InputError: the file lies in two places.
        """
        files = self._places[1]
        for variant in (f'{name}{packed}' for name in names for packed in ('', '.gz')):
            if len(places := files.get(variant, [])) > 1:
                raise InputError(
                    f'{self.path}: both {places[0]} and {places[1]} are there; '
                    'give the folder that holds one of them'
                )
            if places:
                return join(self.path, places[0])
        return ''

    def needed_table(self, *names: str) -> str:
        """As `table`, but it must be there."""
        if path := self.table(*names):
            return path
        raise self.lacks(f'no file {" or ".join(names)}')

    def lacks(self, what: str) -> InputError:
        """The error that something is not there, with what is expected."""
        return InputError(f'{self.path}: {what}; expected there: {self._layout}')

    def images(self, names: Iterable[str]) -> list[str]:
        """Relative path of each image, '' for those not there; by name without its ending.

        An image that lies in several places is taken from the first of them.
        """
        return self._first(self._places[0], [_stem(name) for name in names], 'images')

    def folders(self, names: Iterable[str]) -> list[str]:
        """Relative path of each folder that `leaf` matches, '' for those not there."""
        return self._first(self._places[2], list(names), 'folders')

    def _first(self, places: _Places, names: list[str], what: str) -> list[str]:
        copies = [name for name in dict.fromkeys(names) if len(places.get(name, ())) > 1]
        if copies:
            taken, other = places[copies[0]][:2]
            self.announcements.append(
                f'{self.path}: {len(copies)} {what} are there more than once, the first is taken: '
                f'{taken}, not {other}'
            )
        return [places[name][0] if name in places else '' for name in names]


def _stem(name: str) -> str:
    name = name.rpartition('/')[2]
    return name.rpartition('.')[0] if is_image(name) else name
