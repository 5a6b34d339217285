"""The parameters alone, by orbax, with the Flax modules that they belong to."""

import json
from pathlib import Path

import orbax.checkpoint as ocp

import big_ssl.models
from big_ssl.exports.model import Model

REQUIREMENTS = ('flax', 'jax', 'jaxtyping', 'numpy', 'orbax-checkpoint', 'pillow')
AXES = 'NHWC'
BAKES = False
_MODULES = ('inputs', 'convolution', 'stages', 'resnet', 'bit')


def write(model: Model, folder: Path) -> None:
    """`parameters/`, a checkpoint of `params` and `batch_stats`, and `network/`."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve() / 'parameters', model.variables)
    (folder / 'network.json').write_text(json.dumps(model.network, indent=2))
    modules = Path(next(iter(big_ssl.models.__path__)))
    (folder / 'network').mkdir()
    (folder / 'network/__init__.py').touch()
    for name in _MODULES:
        text = (modules / f'{name}.py').read_text()
        text = text.replace('from big_ssl.models.', 'from network.')
        (folder / f'network/{name}.py').write_text(text)
