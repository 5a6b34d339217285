"""Floating-point operations of a traced program: those of its convolutions and matrix products.

A multiplication and an addition are two operations. What a compiler's own estimate leaves open is
counted here: loops as often as they run, and of a convolution only the products with a real pixel,
so that padding costs nothing and neither do the holes of a strided convolution's gradient.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core

Shape = tuple[int, ...]


def flops_of(jaxpr: core.Jaxpr) -> int:
    """Operations of one run, over all devices.

    A branch counts as its largest; what depends on the platform counts as it is on accelerators.

    Args:
      jaxpr: as `jax.jit(f).trace(...).jaxpr.jaxpr` gives it; loops without a known length (`while`)
        count once.
    """
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    if name == 'dot_general':
        return _of_product(equation)
    if name == 'conv_general_dilated':
        return _of_convolution(equation)
    inner = list(_jaxprs(params))
    if name == 'cond':
        of_platform = params.get('branches_platforms')
        return (
            flops_of(inner[of_platform.index(None)]) if of_platform else max(map(flops_of, inner))
        )
    times = {'scan': lambda: params['length'], 'shard_map': lambda: params['mesh'].size}
    return times.get(name, lambda: 1)() * sum(map(flops_of, inner))


def _jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in jax.tree.leaves(
        list(params.values()), is_leaf=lambda x: isinstance(x, (core.Jaxpr, core.ClosedJaxpr))
    ):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _of_product(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params['dimension_numbers']
    (left, _), out = _shapes(equation)
    return 2 * math.prod(left[i] for i in contracted) * math.prod(out)


def _of_convolution(equation: core.JaxprEqn) -> int:
    params = equation.params
    image, kernel, out = params['dimension_numbers']
    (pixels, weights), result = _shapes(equation)
    taps = 1
    for axis, (low, _) in enumerate(params['padding']):
        taps *= _taps(
            size=pixels[image[2 + axis]],
            kernel=weights[kernel[2 + axis]],
            out=result[out[2 + axis]],
            stride=params['window_strides'][axis],
            pad=low,
            holes=params['lhs_dilation'][axis],
            spread=params['rhs_dilation'][axis],
        )
    return 2 * result[out[0]] * result[out[1]] * weights[kernel[1]] * taps


def _shapes(equation: core.JaxprEqn) -> tuple[tuple[Shape, Shape], Shape]:
    """Of the two operands and the result."""
    avals: list[Any] = [v.aval for v in (*equation.invars[:2], equation.outvars[0])]
    left, right, out = (aval.shape for aval in avals)
    return (left, right), out


def _taps(
    *, size: int, kernel: int, out: int, stride: int, pad: int, holes: int, spread: int
) -> int:
    """Pairs of an output position and a kernel position that meet a real pixel, on one axis."""
    place = np.arange(out)[:, None] * stride + np.arange(kernel) * spread - pad
    inside = (place >= 0) & (place < (size - 1) * holes + 1)
    return int((inside & (place % holes == 0)).sum())
