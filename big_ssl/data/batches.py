"""A training batch on the devices, wherever its images are."""

import dataclasses
import functools
from typing import Any, Protocol

import jax
from jaxtyping import Array, Int, UInt8


class Images(Protocol):
    """Where the views of a batch come from."""

    def cropped(self, each: dict[str, Array], size: int) -> UInt8[Array, 'b v size size c']:
        """The views of these examples, squares of `size` pixels."""


class Source(Protocol):
    """What is given to a step: a batch, or the data set that it draws its batch from."""

    def drawn(self, step: Int[Array, '']) -> 'Batch':
        """The batch of a step; called inside the compiled step."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=('each', 'groups', 'images'), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Batch:
    """What a step trains on.

    Attributes:
      each: arrays by example, cut over the devices: `examples` uint32 [b] (numbers since the start
        of training), facts such as `targets`, and what `images` needs to make views.
      groups: int32 [b], of the whole batch, on every device: examples of one patient have one.
      images: where the views come from.
    """

    each: dict[str, Any]
    groups: Any
    images: Images

    def drawn(self, step: Int[Array, '']) -> 'Batch':
        """Itself: the host has drawn it."""
        return self

    def views(self, size: int) -> UInt8[Array, 'b v size size c']:
        """The cropped views."""
        return self.images.cropped(self.each, size)


@functools.partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Cropped:
    """Views that the host has cropped, at the size that it was told: `each` has them."""

    def cropped(self, each: dict[str, Array], size: int) -> UInt8[Array, 'b v size size c']:
        return each['views']
