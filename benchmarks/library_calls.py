"""What a compiled program leaves to cuDNN and cuBLAS: calls that XLA's count of bytes lacks."""

import math
import re

_ITEM = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 'f32': 4, 's32': 4,
         'u32': 4, 'f64': 8, 's64': 8, 'u64': 8}  # fmt: skip
_ARRAY = re.compile(r'\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(?:, |$)')
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
    for line in program.splitlines():
        if not (found := _INSTRUCTION.match(line)):
            continue
        name, shape, operation, operands = found.groups()
        sizes[name] = [_bytes(*array) for array in _ARRAY.findall(shape)]
        if operation == 'custom-call' and _LIBRARY.search(line):
            results = sizes[name][:-1] if shape.startswith('(') else sizes[name]
            total += sum(results)
            total += sum(sum(sizes.get(each, ())) for each in _OPERAND.findall(operands))
    return total


def _bytes(item: str, shape: str) -> int:
    return _ITEM.get(item, 1) * math.prod(map(int, filter(None, shape.split(','))))
