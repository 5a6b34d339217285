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
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from big_ssl import command_line, processes
from big_ssl.data import manifest as manifest_lib
from big_ssl.data import windows
from big_ssl.data.sources import SOURCES
from big_ssl.errors import InputError, Preempted
from big_ssl.keys import nearest
from big_ssl.preparation.pictures import Reading
from big_ssl.preparation.settings import DROP, FAIL, KEEP, SKIP, Settings

log = logging.getLogger('big_ssl')
OWN, REFUSE, SPLIT = 'own', 'refuse', 'split'
_BEAM = """on Google Cloud Dataflow, with pip install 'big_ssl[beam]' 'apache-beam[gcp]' and a
container image in which big_ssl is installed:

  python -m big_ssl.prepare --manifest=gs://BUCKET/table.csv --out=gs://BUCKET/records \\
      --beam_runner=DataflowRunner --beam_options="--project=PROJECT --region=REGION \\
      --temp_location=gs://BUCKET/tmp --sdk_container_image=IMAGE --max_num_workers=50"
"""


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
        raise InputError(f'unknown flag {name}{nearest(name, known)}')
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
        window=windows.parse(flags.window, '--window') if flags.window != OWN else None,
        shorter_side=flags.shorter_side,
        max_pixels=round(flags.max_megapixels * 1e6),
        split_frames=flags.frames == SPLIT,
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
        usage='%(prog)s --manifest=FILE | --source=NAME --raw=DIR  --out=DIR  [FLAGS]',
        description=__doc__,
        epilog=f'{_BEAM}\n{_sources()}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_input(parser)
    _add_checks(parser)
    _add_reading(parser)
    _add_running(parser)
    return parser


def _add_input(parser: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, parser.add_argument_group('what is read and written'))
    add('--manifest=FILE', '', 'CSV, TSV or Parquet with a row for each image')
    add('--source=NAME', '', 'a public data set, see below', choices=('', *SOURCES))
    add('--raw=DIR', '', 'with --source: the folder that it lies in as published')
    add('--out=DIR', '', 'folder of the record set, local or gs://')
    add('--columns=OURS=THEIRS', '', "the manifest's names: label=dx,case_id=lesion")
    add('--image_root=DIR', '', "of relative paths (default: the manifest's folder)")
    add('--keep_columns=NAMES', None, 'further columns to carry along: age,sex (default: all but '
        'those whose names say that they identify a person)')  # fmt: skip
    add('--hash_ids', False, 'ids and paths become salted hashes')
    add('--salt_file=FILE', '', 'of --hash_ids; made if it is not there (default: OUT.salt)')


def _add_checks(parser: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, parser.add_argument_group('what is checked and divided'))
    add('--on_bad', FAIL, 'images that cannot be used: fail, or skip them and list them in '
        'rejected.csv', choices=(FAIL, SKIP))  # fmt: skip
    add('--duplicates', FAIL, 'one picture in two splits, stored in another way perhaps: fail, '
        'drop the copy for training, keep both', choices=(FAIL, DROP, KEEP))  # fmt: skip
    add('--shares=T,V,T', '0.7,0.1,0.2', 'train,val,test where the table has no splits: by '
        'patient, stratified by label')  # fmt: skip
    add('--split_seed=N', 0, 'of these splits')
    add('--splits_from=DIR', '', 'an earlier record set, whose patients keep their splits')


def _add_reading(parser: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, parser.add_argument_group('how images are read'))
    add('--window=W', OWN, "more than 8 bits to 8: own (a DICOM file's; 16-bit PNG and TIFF keep "
        f'their range until training), {windows.HINT}')  # fmt: skip
    add('--frames', REFUSE, 'of a multi-frame DICOM file: refuse, or split into images of the case',
        choices=(REFUSE, SPLIT))  # fmt: skip
    add('--burned_in', REFUSE, 'DICOM files that say that names are burned into the pixels',
        choices=(REFUSE, KEEP))  # fmt: skip
    add('--shorter_side=PIXELS', 0, 'make larger images smaller to this (default: as they are)')
    add('--max_megapixels=N', 100.0, 'larger images are refused unread')


def _add_running(parser: argparse.ArgumentParser) -> None:
    add = functools.partial(_add, parser.add_argument_group('how it is run'))
    add('--workers=N', processes.usable_cores(), 'processes')
    add('--shard_mb=N', 128, 'size of a file of records, in MiB')
    add('--beam_runner=NAME', '', 'on Apache Beam: DirectRunner, DataflowRunner, …')
    add('--beam_options=OPTIONS', '', "Beam's own options, in quotation marks")


def _add(
    group: Any, flag: str, default: Any, text: str, choices: Sequence[str] | None = None
) -> None:
    """A flag, written as in the help text."""
    name, _, example = flag.partition('=')
    if default is False:
        group.add_argument(name, action='store_true', help=text)
        return
    shown = '' if default in ('', None) or '(default' in text else ' (default %(default)s)'
    kind = str if default is None else type(default)
    group.add_argument(name, default=default, type=kind, help=text + shown, choices=choices,
                       metavar=example or '|'.join(choices or ()))  # fmt: skip


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
    columns = dict(manifest_lib.OWN_NAMES)
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
    source = SOURCES.get(settings.source)
    labels = ''
    if source is not None and source.multilabel:
        labels = f' --config.labels.kind=multi --config.labels.negative="{source.negative}"'
    config = 'chexpert_simclr' if labels else 'derm_simclr'
    return f'python -m big_ssl.main --config=configs/{config}.py --workdir=runs/1 {data}{labels}'


class _Stopped(BaseException):
    """Asked to stop. Not an Exception: libraries catch those wherever the signal finds them."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Preempted."""

    def stop(*_: object) -> NoReturn:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Stopped:
        raise Preempted('stopped') from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        with contextlib.suppress(BrokenPipeError):  # of `| head`
            print(_parser().format_help(), flush=True)
        return command_line.DONE
    command_line.set_up_logging()
    return command_line.exit_code(lambda: run(argv[1:]))


if __name__ == '__main__':
    sys.exit(main(sys.argv))
