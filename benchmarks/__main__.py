"""big_ssl beside others, and beside what it cannot do better than, on this machine's CPU.

  python -m benchmarks [--only=host,step] [--quick] [--json=benchmarks/results.json]

Every figure is of ways that took turns in one run: median, lowest and highest of the rounds. Each
part is a process of its own and is written to the file when it is done; what other parts found
stays there, if it is of this machine and these versions. Needs the extra `bench`: `make bench`.
For GPUs: `python -m benchmarks.gpu`.
"""

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cpu_parts, results
from benchmarks.cpu_parts import PARTS

_ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'TF_CPP_MIN_LOG_LEVEL': '3'}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a part failed."""
    flags = _flags(arguments)
    os.environ.update(_ENVIRONMENT)
    about, failed = results.about_machine(), []
    print(about['machine'])
    print(', '.join(f'{name} {version}' for name, version in about['versions'].items()))
    for part in flags.only:
        start = time.monotonic()
        print(f'\n{part} …', file=sys.stderr)
        try:
            found = cpu_parts.measured(part, flags.quick)
        except Exception:
            failed.append(part)
            traceback.print_exc()
            continue
        if flags.json:
            results.keep(Path(flags.json), part, found, about)
        print(f'\n{results.text(part, found)}', flush=True)
        print(f'{part}: {time.monotonic() - start:.0f} s', file=sys.stderr)
    if failed:
        print(f'failed, see above: {", ".join(failed)}')
    return int(bool(failed))


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--only', default=','.join(PARTS), help='parts, joined by commas')
    parser.add_argument('--quick', action='store_true', help='only to see that it runs')
    parser.add_argument('--json', help='where results are kept (default: nowhere)')
    flags = parser.parse_args(arguments)
    flags.only = flags.only.split(',')
    if unknown := [part for part in flags.only if part not in PARTS]:
        parser.error(f'--only: {", ".join(unknown)}; choose among {", ".join(PARTS)}')
    return flags


if __name__ == '__main__':
    sys.exit(main())
