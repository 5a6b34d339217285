"""What a compiled program leaves to cuDNN and cuBLAS: calls that XLA's count of bytes lacks."""

import re

from big_ssl.planning.hlo import INSTRUCTION, array_bytes

_OPERAND = re.compile(r'%?([\w.\-]+)(?:,|$)')
_LIBRARY = re.compile(r'custom_call_target="__cu(?:dnn|blas)')


def bytes_of_library_calls(program: str) -> int:
    """Bytes that these calls read and write; each once, also where a loop repeats it.

    `HloCostAnalysis` of XLA counts custom calls as nothing known. Of a call's several results the
    last is its workspace, which is not counted.

    Args:
      program: as `compiled.as_text()` gives it.
    """
    sizes: dict[str, list[int]] = {}
    total = 0
    for found in filter(None, map(INSTRUCTION.match, program.splitlines())):
        name, shape, operation, rest = found.groups()
        sizes[name] = array_bytes(shape)
        if operation == 'custom-call' and _LIBRARY.search(rest):
            operands = _OPERAND.findall(rest.partition(')')[0])
            total += sum(sizes[name][:-1] if shape.startswith('(') else sizes[name])
            total += sum(sum(sizes.get(each, ())) for each in operands)
    return total
