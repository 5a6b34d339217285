"""Lines of a compiled program's text (XLA's HLO), as `compiled.as_text()` gives it."""

import math
import re

# Name, shape of what comes out, operation, and what follows its opening bracket.
INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$')
_BITS = {'pred': 8, 'bf16': 16, 'token': 0}  # of an element; others say it in their names
_SHAPE = re.compile(r'(\w+)\[([\d,]*)\]')


def array_bytes(shape: str) -> list[int]:
    """Of each array in the text of a shape, which may be a tuple."""
    return [_bytes(dtype, dims) for dtype, dims in _SHAPE.findall(shape)]


def _bytes(dtype: str, dims: str) -> int:
    bits = _BITS.get(dtype) or int((re.findall(r'\d+', dtype) or ['0'])[0])
    return math.prod(int(n) for n in dims.split(',') if n) * bits // 8
