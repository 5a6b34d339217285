"""Weights for others: `python -m big_ssl.export --workdir=W --format=F --out=P`.

Writes the folder P: the network of the run W (its best checkpoint on validation, else its newest),
how to feed it, what comes out, a model card, checksums, and a predict.py that needs no big_ssl:
`python P/predict.py IMAGE_FOLDER OUT.csv`. What was written is run in the runtime that its receiver
will use and compared with the source before it is put there.

  --workdir=W     of a run, or one of its checkpoints: W/checkpoints/STEP
  --format=F      safetensors (PyTorch; by timm's names), onnx, stablehlo (JAX), savedmodel
                  (TensorFlow), or orbax (parameters for Flax)
  --out=P         a folder that is not there yet
  --head          with the classifier; else the encoder alone
  --bake          uint8 images in and, with --head, probabilities out (not safetensors, orbax)
  --license=TEXT  of the weights, for the model card
  --intended_use=TEXT

Exit codes: 0 done; 2 the input is wrong, or the export differs from its source.
"""

import importlib
import logging
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from big_ssl import command_line
from big_ssl.errors import InputError
from big_ssl.keys import nearest

log = logging.getLogger('big_ssl')
FORMATS = ('safetensors', 'onnx', 'stablehlo', 'savedmodel', 'orbax')
EXAMPLE = 'python -m big_ssl.export --workdir=runs/finetuned --format=onnx --head --out=model'


def parse(argv: Sequence[str]) -> flags.FlagValues:
    """Reads a command line.

    Raises:
      InputError: a flag is missing, unknown, or has no such value.
    """
    values = flags.FlagValues()
    for name in ('workdir', 'format', 'out'):
        flags.DEFINE_string(name, None, '', values)
    for name in ('license', 'intended_use'):
        flags.DEFINE_string(name, 'not stated', '', values)
    for name in ('head', 'bake'):
        flags.DEFINE_boolean(name, False, '', values)
    try:
        rest = values(list(argv))
    except flags.UnrecognizedFlagError as error:
        known = nearest(error.flagname, list(values))
        raise InputError(f'unknown flag --{error.flagname}{known}') from None
    except flags.Error as error:
        raise InputError(' '.join(str(error).split())) from None
    if len(rest) > 1:
        raise InputError(f'unexpected argument {rest[1]!r}; flags are --NAME=VALUE')
    for name in ('workdir', 'format', 'out'):
        if not values[name].value:
            raise InputError(f'--{name} is missing; for example: {EXAMPLE}')
    if values.format not in FORMATS:
        known = nearest(values.format, FORMATS)
        raise InputError(f'--format={values.format} is not one of {", ".join(FORMATS)}{known}')
    return values


def run(argv: Sequence[str]) -> None:
    """Writes the folder, whole or not at all.

    Raises:
      InputError: see `parse`; or there is nothing to export, or it cannot be written.
    """
    values = parse(argv)
    out = Path(values.out)
    if out.exists():
        raise InputError(f'--out={out} is already there; name a new folder')
    from big_ssl.exports import model as model_lib  # JAX starts here
    from big_ssl.exports import papers, verify

    writer = importlib.import_module(f'big_ssl.exports.formats.{values.format}')
    if values.bake and not writer.BAKES:
        raise InputError(f'--bake: {values.format} holds parameters alone; leave it out')
    model = model_lib.load(values.workdir, head=values.head, baked=values.bake)
    facts = papers.Facts(
        format=values.format,
        axes=writer.AXES,
        requirements=writer.REQUIREMENTS,
        command=shlex.join(['python', '-m', 'big_ssl.export', *argv[1:]]),
        license=values.license,
        intended_use=values.intended_use,
    )
    part = out.with_name(f'.{out.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        log.info('writing %s', values.format)
        writer.write(model, part)
        papers.write_interface(model, facts, part)
        verified = _verified(verify.difference(model, part), ', '.join(facts.requirements))
        papers.write_card(model, facts, verified, part)
        part.rename(out)
    except OSError as error:
        raise InputError(f'{error.filename or out}: cannot be written: {error.strerror}') from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    log.info('done: %s', out)


def _verified(difference: float | None, runs: str) -> str:
    """Says what the comparison with the source gave."""
    if difference is None:
        text = f'NOT VERIFIED: what runs it is not all installed where this was exported ({runs})'
        log.warning('%s', text)
        return text
    text = (
        'Verified in its own runtime: its largest difference from the source is '
        f'{difference:.2g} of the largest output'
    )
    log.info('%s', text)
    return text


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command and returns its exit code."""
    if command_line.HELP & set(argv):
        print(__doc__)
        return command_line.DONE
    command_line.set_up_logging()
    return command_line.exit_code(lambda: run(argv))


if __name__ == '__main__':
    sys.exit(main(sys.argv))
