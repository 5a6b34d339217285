"""Methods: what a training minimises, a file each.

`config.method.name` is the name of a file in this folder or a dotted path to a module of the
user's own (`lab.my_method`, importable from where the command is run). Such a module has

  KEYS   dict of `Key`: the keys of `config.method` besides `name`, with their defaults
  TASK   'contrastive' (pre-training) or 'supervised' (a classifier, judged on val and test)
  LABELS 'none', 'some' (class numbers as far as they are known, -1 elsewhere) or 'all'
  make   a subclass of `Method`
  check  (config) → None, optional: raises InputError where other keys do not fit the method

and nothing else in big_ssl knows its name. Figures, titles and what is saved come from the module.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from ml_collections import ConfigDict

from big_ssl import extensions
from big_ssl.errors import InputError
from big_ssl.keys import Key

if TYPE_CHECKING:  # settings are read without JAX
    import flax.linen as nn
    from jax.sharding import Mesh
    from jaxtyping import Array, Float

    from big_ssl.data.labels import Task

    Figures = Mapping[str, Float[Array, '']]

__all__ = ['Key', 'Method', 'check_pairs', 'load', 'names']


_PARTS = ('KEYS', 'TASK', 'LABELS', 'make')


@dataclasses.dataclass(frozen=True)
class Method:
    """A method for one run. A subclass gives `network` and `loss`, and what else differs.

    Attributes:
      config: of the run, settled; its own keys are `config.method`.
      encoder: the backbone: images float32 [n, h, w, c] in [0, 1] → features [n, d].
      mesh: the devices; the batch lies over its axis `data`.
      steps: of the whole run.
      task: the classes, with LABELS='some' or 'all'.
    """

    config: ConfigDict
    encoder: nn.Module
    mesh: Mesh
    steps: int
    task: Task | None = None

    name: ClassVar[str] = ''  # as people write it; '': that of the class
    figures: ClassVar[Mapping[str, str]] = {'loss': 'loss'}  # of the report: name → label, unit
    parts: ClassVar[tuple[str, ...]] = ('encoder',)  # of the network, taken from `init_from`

    @property
    def title(self) -> str:
        """What reports call a run of it."""
        of_cases = ', pairs of a case' if self.config.pairing == 'case' else ''
        return (self.name or type(self).__name__) + of_cases

    @property
    def network(self) -> nn.Module:
        """The encoder, called `encoder`, with its heads: (images, train) → dictionary of arrays.

        `features` [n, d] are those of the encoder, `z` [n, k] what the monitor looks at for
        collapse (without it: the features), `logits` [n, classes] those of a classifier.
        """
        raise NotImplementedError

    def loss(
        self, params: Any, state: Any, views: Any
    ) -> tuple[Float[Array, ''], Figures, dict[str, Any]]:
        """What a step minimises, its figures, and the parts of the state that it replaces.

        A pure function, differentiated by `params`.

        Args:
          params: of the network.
          state: a `train.state.TrainState`: `step`, `batch_stats`, and `extra` as of `init`.
          views: a `tasks.forward.Views`: a batch and its way through a network.

        Returns:
          The loss; scalars by name, for the log; and new values of `batch_stats` or `extra`.
        """
        raise NotImplementedError

    def init(self, variables: Mapping[str, Any]) -> Any:
        """What is kept besides the network from step to step: a tree of arrays, or {}.

        Args:
          variables: `params` and `batch_stats` that training begins with.
        """
        return {}

    def after_update(self, params: Any, state: Any) -> Any:
        """The new `state.extra`, once the parameters are updated (an average of them, say)."""
        return state.extra

    def about(self) -> dict[str, Any]:
        """Plain data that is saved beside each checkpoint; `task` makes it a classifier."""
        return {}

    def trained_on(self) -> dict[str, Any]:
        """`trained_on/…` of `result.json`, besides the run's own data."""
        return {}


def load(name: str) -> ModuleType:
    """The module of a method.

    Raises:
      InputError: there is none, or it lacks what a method has.
    """
    return extensions.load(__name__, 'method.name', name, known=names(), parts=_PARTS)


def check_pairs(config: ConfigDict) -> None:
    """Raises InputError where a batch has no pairs to tell apart."""
    if config.batch_size < 2:
        raise InputError('config: batch_size=1 leaves no example to be a negative; use 2 or more')
    if config.views < 2:
        raise InputError(
            f'config: views={config.views} is too few for method.name={config.method.name}; '
            'use 2 or more'
        )


def names() -> list[str]:
    """Those of the methods in this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))
