"""A key of a config as the module that reads it describes it."""

import difflib
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from big_ssl.errors import InputError


class Key(NamedTuple):
    """Default, meaning and allowed values of a key.

    Attributes:
      default: of the type that every value has; None where there is none.
      about: what it means, with its source, in a few words.
      low, high: what a number must lie between, both included.
      choices: what it must be one of; () allows everything.
      kind: type of the values, where `default` may be None.
    """

    default: Any
    about: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()
    kind: type | None = None

    @property
    def line(self) -> str:
        """For a help text: what it means, and its choices."""
        return self.about + (f' ({", ".join(map(str, self.choices))})' if self.choices else '')

    def check(self, name: str, value: Any) -> None:
        """Raises InputError, with the name of the key, where a value is not allowed."""
        if self.choices and value not in self.choices:
            hint = nearest(value, self.choices) if isinstance(value, str) else ''
            listed = ', '.join(map(str, self.choices))
            raise InputError(f'config: {name}={value} is not one of {listed}{hint}')
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise InputError(f'config: {name}={value} is outside [{self.low:g}, {self.high:g}]')


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean X?` for the known key that looks most like `name`, or nothing."""
    known = list(known)
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not found:
        last = name.rsplit('.', 1)[-1]
        found = [key for key in known if key.rsplit('.', 1)[-1] == last][:1]
    return f', did you mean {found[0]}?' if found else ''
