"""A key of the config as the module that reads it describes it."""

import math
from typing import Any, NamedTuple

from big_ssl.errors import InputError


class Key(NamedTuple):
    """Default, meaning and allowed values of a key.

    Attributes:
      default: of the type that every value has.
      about: what it means, with its source, in a few words.
      low, high: what a number must lie between, both included.
      choices: what it must be one of; () allows everything.
    """

    default: Any
    about: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raises InputError, with the name of the key, where a value is not allowed."""
        if self.choices and value not in self.choices:
            listed = ', '.join(map(str, self.choices))
            raise InputError(f'config: {name}={value} is not one of {listed}')
        if isinstance(value, int | float) and not self.low <= value <= self.high:
            raise InputError(f'config: {name}={value} is outside [{self.low:g}, {self.high:g}]')
