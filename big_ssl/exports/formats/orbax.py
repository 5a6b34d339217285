"""The parameters alone, by orbax, with the source of the Flax module that they belong to."""

import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import orbax.checkpoint as ocp

from big_ssl.errors import InputError
from big_ssl.exports.model import Model

REQUIREMENTS = ('flax', 'jax', 'jaxtyping', 'numpy', 'orbax-checkpoint', 'pillow')
AXES = 'NHWC'
BAKES = False
PACKAGE = 'network'  # in which the receiver finds the modules


def write(model: Model, folder: Path) -> None:
    """`parameters/`, a checkpoint of `params` and `batch_stats`, and `network/`.

    Raises:
      InputError: the encoder cannot be made from plain data.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve() / 'parameters', model.variables)
    kind = type(model.encoder)
    made_of = {'module': f'{PACKAGE}.{kind.__module__}', 'class': kind.__name__}
    try:
        text = json.dumps({**made_of, 'fields': model.network}, indent=2)
    except TypeError as error:
        raise InputError(f'--format=orbax: a field of {kind.__name__}: {error}') from None
    (folder / 'network.json').write_text(text)
    _copy_modules(kind.__module__, folder / PACKAGE)


def _copy_modules(first: str, folder: Path) -> None:
    """The module and all that it imports of its own package and of big_ssl, as one package."""
    roots = {first.split('.')[0], 'big_ssl'}
    imports = re.compile(
        rf'^(\s*(?:from|import) )(?=(?:{"|".join(sorted(roots))})\b)', re.MULTILINE
    )
    found, left = set[str](), [first]
    while left:
        name = left.pop()
        if name in found or name.split('.')[0] not in roots:
            continue
        found.add(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        source = Path(spec.origin)
        text = source.read_text(encoding='utf-8')
        place = folder.joinpath(*name.split('.'))
        place = place / '__init__.py' if source.name == '__init__.py' else place.with_suffix('.py')
        for package in place.relative_to(folder).parents:
            (folder / package).mkdir(parents=True, exist_ok=True)
            (folder / package / '__init__.py').touch()
        place.write_text(imports.sub(rf'\g<1>{PACKAGE}.', text), encoding='utf-8')
        left += _imported(text, spec.parent or '')


def _imported(text: str, package: str) -> Iterator[str]:
    """Names of the modules that a text imports; it lies in a package."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = '.' * node.level + (node.module or '')
            module = importlib.util.resolve_name(module, package)
            modules = [f'{module}.{each.name}' for each in node.names]
            modules = [each for each in modules if each in sys.modules]
            yield from modules
            if len(modules) < len(node.names):
                yield module
