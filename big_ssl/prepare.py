"""A table of images becomes case records: `python -m big_ssl.prepare --manifest=FILE --out=DIR`.

Every image is looked at before anything is written: what cannot be read, what is in two splits, who
is in two splits. DIR appears in one step when it is complete, with data_report.html. A command that
was stopped or killed goes on when it is run again. Then:

  python -m big_ssl.main --config=… --config.dataset.name=records --config.dataset.data_dir=DIR

Exit codes: 0 done; 2 the input is wrong; 75 stopped, run the same command again.
"""

import argparse
import contextlib
import functools
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from big_ssl import command_line
from big_ssl import config as config_lib
from big_ssl.data import manifest as manifest_lib
from big_ssl.data import windows
from big_ssl.data.sources import SOURCES
from big_ssl.errors import InputError, Preempted
from big_ssl.preparation.pictures import Reading
from big_ssl.preparation.settings import DROP, FAIL, KEEP, SKIP, Settings

log = logging.getLogger('big_ssl')


class _Parser(argparse.ArgumentParser):
    """One line for whatever is wrong."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f'{message}; python -m big_ssl.prepare --help lists the flags')


def parse(argv: Sequence[str]) -> tuple[Settings, argparse.Namespace]:
    """Reads a command line: what is asked, and how it is to be run.

    Raises:
      InputError: an unknown flag, or values that do not go together.
    """
    parser = _parser()
    flags, unknown = parser.parse_known_args(argv)
    if unknown:
        name = unknown[0].split('=')[0]
        known = [option for action in parser._actions for option in action.option_strings]
        raise InputError(f'unknown flag {name}{config_lib.nearest(name, known)}')
    if bool(flags.manifest) == bool(flags.source):
        raise InputError('give either --manifest=FILE or --source=NAME with --raw=DIR')
    if bool(flags.source) != bool(flags.raw):
        raise InputError('--source=NAME and --raw=DIR go together')
    if not flags.out:
        raise InputError('--out is missing: the folder of the record set')
    if flags.source and (flags.image_root or flags.columns):
        raise InputError('--image_root and --columns are for --manifest')
    if flags.workers < 1:
        raise InputError(f'--workers={flags.workers}: at least 1')
    reading = Reading(
        window=windows.parse(flags.window, '--window') if flags.window != 'own' else None,
        shorter_side=flags.shorter_side,
        max_pixels=round(flags.max_megapixels * 1e6),
        split_frames=flags.frames == 'split',
        burned_in=flags.burned_in == KEEP,
    )
    settings = Settings(
        out=flags.out,
        manifest=flags.manifest,
        source=flags.source,
        raw=flags.raw,
        image_root=flags.image_root,
        columns=_columns(flags.columns),
        keep_columns=None if flags.keep_columns is None else _names(flags.keep_columns),
        reading=reading,
        on_bad=flags.on_bad,
        duplicates=flags.duplicates,
        shares=_shares(flags.shares),
        split_seed=flags.split_seed,
        splits_from=flags.splits_from,
        hash_ids=flags.hash_ids,
        salt_file=flags.salt_file,
        shard_bytes=flags.shard_mb * 2**20,
    )
    return settings, flags


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog='python -m big_ssl.prepare',
        description=__doc__,
        epilog=_sources(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = functools.partial(parser.add_argument, metavar='')
    add('--manifest', default='', help='CSV, TSV or Parquet with a row for each image')
    add('--source', default='', choices=('', *SOURCES), help='a public data set, see below')
    add('--raw', default='', help='with --source: the folder that it lies in as published')
    add('--out', default='', help='folder of the record set')
    add('--columns', default='', help="the manifest's names: label=dx,case_id=lesion")
    add('--image_root', default='', help="of relative paths (default: the manifest's folder)")
    add('--keep_columns', help='further columns to carry along: age,sex (default: all but those '
        'whose names say that they identify a person)')  # fmt: skip
    add('--on_bad', default=FAIL, choices=(FAIL, SKIP),
        help='images that cannot be used: fail, or skip and list them in rejected.csv')  # fmt: skip
    add('--duplicates', default=FAIL, choices=(FAIL, DROP, KEEP),
        help='one picture in two splits, also stored in another way: fail, drop the copy for '
        'training, keep both')  # fmt: skip
    add('--shares', default='0.7,0.1,0.2',
        help='train,val,test where the table has no splits (default %(default)s)')  # fmt: skip
    add('--split_seed', type=int, default=0, help='of these splits')
    add('--splits_from', default='', help='an earlier record set, whose patients keep their splits')
    add('--window', default='own', help='more than 8 bits to 8: own (of a DICOM file; 16-bit PNG '
        f'and TIFF keep their range until training), {windows.HINT}')  # fmt: skip
    add('--frames', default='refuse', choices=('refuse', 'split'),
        help='of a multi-frame DICOM file: refuse, or split into images of the case')  # fmt: skip
    add('--burned_in', default='refuse', choices=('refuse', KEEP),
        help='DICOM files that say that names are burned into the pixels')  # fmt: skip
    add('--shorter_side', type=int, default=0,
        help='make larger images smaller to this, in pixels (default: as they are)')  # fmt: skip
    add('--max_megapixels', type=float, default=100.0, help='larger images are refused unread '
        '(default %(default)s)')  # fmt: skip
    parser.add_argument('--hash_ids', action='store_true',
                        help='ids and paths become salted hashes')  # fmt: skip
    add(
        '--salt_file', default='', help='of --hash_ids; made if it is not there (default: OUT.salt)'
    )
    add('--shard_mb', type=int, default=128, help='of a file of records (default %(default)s)')
    add('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: all cores)')
    add('--beam_runner', default='', help='run on Apache Beam: DirectRunner, DataflowRunner, …')
    add('--beam_options', default='', help="Beam's own options, in quotation marks")
    return parser


def _sources() -> str:
    lines = ['public data sets (--source):', '']
    for source in SOURCES.values():
        lines += [
            f'{source.name}: {source.title}',
            f'  from    {source.url}',
            f'  terms   {source.terms}',
            f'  case    {source.case}',
            '  layout  ' + source.layout.strip().replace('\n', '\n          '),
            '',
        ]
    return '\n'.join(lines)


def _columns(text: str) -> dict[str, str]:
    columns = {name: name for name in manifest_lib.COLUMNS}
    for pair in filter(None, text.split(',')):
        ours, _, theirs = (part.strip() for part in pair.partition('='))
        if ours not in columns or not theirs:
            raise InputError(f'--columns={text}: give {"|".join(columns)}=NAME, joined by commas')
        columns[ours] = theirs
    return columns


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(',') if name.strip())


def _shares(text: str) -> tuple[float, ...]:
    try:
        shares = tuple(float(part) for part in text.split(','))
    except ValueError:
        shares = ()
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f'--shares={text}: three numbers for train,val,test that add up to 1')
    return shares


def run(argv: Sequence[str]) -> None:
    """Does what the command line says; raises as `make.make`, and Preempted when asked to stop."""
    settings, flags = parse(argv)
    from big_ssl.preparation import make, work

    how = functools.partial(work.run_here, workers=flags.workers)
    if flags.beam_runner:
        options = shlex.split(flags.beam_options)
        how = functools.partial(work.run_on_beam, runner=flags.beam_runner, options=options)
    with _stoppable():
        make.make(settings, how)
    log.info('next: %s', _next(settings))


def _next(settings: Settings) -> str:
    data = f'--config.dataset.name=records --config.dataset.data_dir={settings.out}'
    config = '--config=configs/derm_simclr.py --workdir=runs/simclr'
    return f'python -m big_ssl.main {config} {data}'


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Preempted."""

    def stop(*_: object) -> NoReturn:
        raise Preempted('stopped')

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        print(_parser().format_help())
        return command_line.DONE
    command_line.set_up_logging()
    return command_line.exit_code(lambda: run(argv[1:]))


if __name__ == '__main__':
    sys.exit(main(sys.argv))
