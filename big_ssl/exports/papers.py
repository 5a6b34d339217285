"""What goes with exported weights: how to feed them, what comes out, and a model card."""

import dataclasses
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from big_ssl.exports.model import Model
from big_ssl.tasks import judge

RECEIVERS = Path(__file__).with_name('receivers')
CHECKSUMS = 'SHA256SUMS'
NOT_STATED = 'not stated'
_PACKAGES = ('big_ssl', 'jax', 'flax', 'numpy', 'torch', 'tensorflow-cpu', 'onnx')


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the card says that the weights do not know.

    Attributes:
      format: one of `formats`.
      axes: of a batch of images, NHWC or NCHW.
      requirements: packages that run the export.
      command: that made it.
      license, intended_use: as the exporter states them.
    """

    format: str
    axes: str
    requirements: tuple[str, ...]
    command: str
    license: str
    intended_use: str


def write_interface(model: Model, facts: Facts, folder: Path) -> None:
    """How the weights are fed and run: what the receiver's program reads, and that program."""
    _json(folder / 'preprocessing.json', preprocessing(model, facts.axes))
    _json(folder / 'labels.json', labels(model))
    versions = (f'{name}>={_version(name)}' for name in facts.requirements)
    (folder / 'requirements.txt').write_text('\n'.join([*versions, '']))
    shutil.copy(RECEIVERS / 'predict.py', folder)
    shutil.copy(RECEIVERS / f'runtime_{facts.format}.py', folder / 'runtime.py')


def write_card(model: Model, facts: Facts, verified: str, folder: Path) -> None:
    """`model_card.md`, and the checksums of all files."""
    (folder / 'model_card.md').write_text(card(model, facts, verified), encoding='utf-8')
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    lines = [f'{_sha256(path)}  {path.relative_to(folder).as_posix()}' for path in files]
    (folder / CHECKSUMS).write_text('\n'.join([*lines, '']))


def preprocessing(model: Model, axes: str) -> dict[str, Any]:
    """`preprocessing.json`: from an image file to the numbers that the model takes."""
    mean, deviation = model.normalization
    return {
        'image_size': model.image_size,
        'channels': model.settings['dataset.channels'] or 3,
        'crop': model.settings['crop.evaluation'],
        'window': model.settings['dataset.window'],
        'steps': [
            'decode; turn upright as EXIF or XMP says; levels of 16-bit grey by `window`',
            'grey if channels is 1, else RGB; 8 bits',
            'crop the centred square of `crop` times the shorter side',
            'resize to image_size by Pillow BILINEAR (antialiased)',
            'repeat a single channel three times',
            'give the model the bytes' if model.baked else 'divide by 255',
        ],
        'input': {
            'dtype': 'uint8' if model.baked else 'float32',
            'range': [0, 255] if model.baked else [0, 1],
            'axes': axes,
        },
        'normalization': {
            'mean': list(mean),
            'deviation': list(deviation),
            'by': 'the network itself: do not do it before',
        },
    }


def labels(model: Model) -> dict[str, Any]:
    """`labels.json`: what the outputs are."""
    task = model.task
    known = {
        name.removeprefix(judge.THRESHOLD): value
        for name, value in model.result.items()
        if name.startswith(judge.THRESHOLD)
    }
    return {
        'outputs': model.outputs,
        'classes': list(task.classes) if task else [],
        'several_at_once': task.multilabel if task else False,
        'negative': task.negative if task else '',
        'thresholds_at_90_specificity_on_validation': known if task else {},
    }


def card(model: Model, facts: Facts, verified: str) -> str:
    """`model_card.md`."""
    task, about = model.task, model.about['trained_on']
    what = 'classifier' if task else 'encoder'
    network = ', '.join(f'{key} {value}' for key, value in model.network.items())
    sections = {
        f'Model card: {what}, {facts.format}': [
            f'A {model.title}: {network}. Takes images of {model.image_size} pixels '
            '(preprocessing.json); gives '
            f'{model.outputs}{f" for {len(task.classes)} classes (labels.json)" if task else ""}.',
            *_synthetic(about),
        ],
        'Licence': [facts.license],
        'Intended use': [facts.intended_use],
        'Limits': _limits(model),
        'Training data': _table(('', ''), _seen(about | {'trained_on/step': model.step})),
        'Figures': [model.not_judged] if model.not_judged else _figures(model.result),
        'How to run it': [
            '`python predict.py IMAGE_FOLDER OUT.csv`, with what requirements.txt names installed. '
            f'`sha256sum -c {CHECKSUMS}` tells whether the files are whole.'
        ],
        'How it was made': [
            f'`{facts.command}`',
            ', '.join(f'{name} {_version(name)}' for name in _PACKAGES if _version(name)),
            f'Python {platform.python_version()}',
            verified,
        ],
    }
    return '\n'.join(
        line
        for number, (title, lines) in enumerate(sections.items())
        for line in (f'{"##" if number else "#"} {title}', '', *_paragraphs(lines))
    )


def _limits(model: Model) -> list[str]:
    found = [
        'No medical device. Not to be used for decisions on patients without a validation at the '
        'place of use, under the law that holds there.',
        'The figures are of the splits named below. Another camera, clinic or population changes '
        'them; measure before you rely on them.',
    ]
    if model.task is None:
        return [*found, 'Features mean nothing by themselves: train a classifier on them.']
    return [
        *found,
        'It knows the classes of labels.json alone and answers with them for any image, of '
        'whatever it shows.',
        'Scores are of single images; those of a case with several images are averaged.',
    ]


def _synthetic(about: Mapping[str, Any]) -> list[str]:
    kinds = (about.get('trained_on/synthetic'), about.get('trained_on/before/synthetic'))
    return ['**Trained on SYNTHETIC images: of no use but to try the software.**'] * any(kinds)


def _seen(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.removeprefix('trained_on/'), _text(value)) for name, value in about.items()]


def _figures(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name,
            f'{value:.4g}',
            f'{result[f"{name}/low"]:.4g} to {result[f"{name}/high"]:.4g}',
            _text(result.get(f'{name}/n', '')),
        )
        for name, value in result.items()
        if f'{name}/low' in result and _is_overall(name)
    ]
    if not rows:
        return ['None: the run was not judged on labels.']
    note = '95% intervals, over patients. More figures are in the report of the run.'
    return [*_table(('split/metric', 'value', '95% interval', 'n'), rows), '', note]


def _is_overall(name: str) -> bool:
    """SPLIT/METRIC or SPLIT/auc/CLASS; no subgroup (@), no operating point of a class."""
    _, metric, *of_class = name.split('/', 2)
    return '@' not in name and (not of_class or metric == 'auc')


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [header, tuple('---' for _ in header), *rows]
    return ['\n'.join(f'| {" | ".join(_cell(each) for each in line)} |' for line in lines)]


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('\n', ' ')


def _paragraphs(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line:
            yield line
            yield ''


def _text(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _version(package: str) -> str:
    """Installed, else nothing."""
    names = (package, f'{package}-cpu')  # TensorFlow's
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ''


def _sha256(path: Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
