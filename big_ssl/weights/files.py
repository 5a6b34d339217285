"""Arrays of weight files, by the file's own names; nothing in a file is run.

What is wrong with a file is an InputError of one line, whatever the library says.
"""

import dataclasses
import hashlib
import io
import json
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath

from big_ssl.errors import InputError
from big_ssl.models.naming import Arrays

METADATA = 'big_ssl'  # of a safetensors file of ours: settings of its network, as JSON
KINDS = '.safetensors, .npz, .pth (.pt, .bin, .ckpt), or a TensorFlow checkpoint or SavedModel'
_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'


@dataclasses.dataclass(frozen=True)
class File:
    """What a file of weights holds.

    Attributes:
      path: of the file or folder.
      arrays: by its own names.
      settings: what it says of its network, by keys of the config; mostly nothing.
      sha256: of the file; of a checkpoint of TensorFlow, of its index and data one after the other.
    """

    path: str
    arrays: Arrays
    settings: dict[str, Any]
    sha256: str


def read(path: str) -> File:
    """Reads a file by its ending, or a folder or checkpoint of TensorFlow.

    Raises:
      InputError: it is not there, of no known kind, damaged, or holds more than plain arrays.
    """
    try:
        file = _read(path)
    except FileNotFoundError:
        raise InputError(f'init_from: {path}: no such file') from None
    except _broken() as error:
        text = ' '.join(str(error).split())[:300] or type(error).__name__
        raise InputError(f'init_from: {path}: cannot be read: {text}') from None
    if not file.arrays:
        raise InputError(f'init_from: {path}: holds no arrays')
    return file


def is_tensorflow(path: epath.Path) -> bool:
    """Whether this is a SavedModel, or a checkpoint without its endings, or a folder of some."""
    return _tensorflow_prefix(path) is not None


def _read(path: str) -> File:
    if (prefix := _tensorflow_prefix(epath.Path(path))) is not None:
        data = epath.Path(prefix).parent.glob(f'{epath.Path(prefix).name}.data-*')
        parts = [epath.Path(f'{prefix}.index'), *sorted(data)]
        return File(path, _tensorflow(prefix), {}, _sha256(*(part.read_bytes() for part in parts)))
    reader = _BY_ENDING.get(path.rsplit('.', 1)[-1].lower())
    if reader is None:
        raise InputError(f'init_from: {path}: neither the workdir of a big_ssl run nor {KINDS}')
    content = epath.Path(path).read_bytes()
    return File(path, *reader(content), _sha256(content))


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _safetensors(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], 'little')
    arrays = load(content)  # has looked at the header
    metadata = json.loads(content[8 : 8 + length]).get('__metadata__', {})
    settings = json.loads(metadata.get(METADATA, '{}'))
    if not isinstance(settings, dict):
        raise ValueError(f'its metadata {METADATA!r} is no JSON object')
    return arrays, settings


def _npz(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError('not a .npz archive')
        return {name: file[name] for name in file.files}, {}


def _torch(content: bytes) -> tuple[Arrays, dict[str, Any]]:
    try:
        import torch
    except ImportError:
        raise InputError(
            "init_from: files of PyTorch need pip install 'big_ssl[interop]'; .safetensors do not"
        ) from None
    try:
        with warnings.catch_warnings(action='ignore'):  # of damaged files
            found = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            'holds more than plain tensors, which would have to be run; ask for a .safetensors, or '
            'save its state_dict() alone'
        ) from None
    except Exception as error:  # a damaged file calls what it may with whatever it holds
        raise ValueError(str(error) or type(error).__name__) from None
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in _flat(found)
        if isinstance(tensor, torch.Tensor) and not tensor.is_sparse
    }, {}


def _flat(found: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a state_dict, or of that in what training scripts save around it."""
    for key in ('state_dict', 'model', 'model_state_dict'):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            return _flat(found[key])
    if not isinstance(found, Mapping):
        raise ValueError('holds no state_dict')
    return iter((str(name), value) for name, value in found.items())


def _tensorflow_prefix(path: epath.Path) -> str | None:
    """What TensorFlow calls the checkpoint's path: without `.index` and `.data-…`."""
    if (path / 'saved_model.pb').exists():
        return str(path / 'variables' / 'variables')
    if path.is_dir():
        found = sorted(path.glob('*.index'))
        if len(found) > 1:
            listed = ', '.join(each.name.removesuffix('.index') for each in found)
            raise InputError(f'init_from: {path} holds several checkpoints, name one: {listed}')
        return str(found[0]).removesuffix('.index') if found else None
    plain = str(path).removesuffix('.index')
    return plain if epath.Path(f'{plain}.index').exists() else None


def _tensorflow(prefix: str) -> Arrays:
    """The variables of a checkpoint by name; of TF2's, by those they had when they were made."""
    import tensorflow as tf

    try:
        return _variables(tf.train.load_checkpoint(prefix))
    except tf.errors.OpError as error:
        raise ValueError(error.message) from None


def _variables(reader: Any) -> Arrays:
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    keys = reader.get_variable_to_shape_map()
    names = {key: key for key in keys if key != _GRAPH}
    if _GRAPH in keys:
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
            reader.get_tensor(_GRAPH)
        )
        names = {
            attribute.checkpoint_key: attribute.full_name.removesuffix(':0')
            for node in graph.nodes
            for attribute in node.attributes
            if attribute.full_name and attribute.checkpoint_key in keys
        }
    arrays = {name: reader.get_tensor(key) for key, name in names.items()}
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}


def _broken() -> tuple[type[Exception], ...]:
    """What libraries raise for a damaged file."""
    from safetensors import SafetensorError

    return (ValueError, LookupError, EOFError, MemoryError, OSError, RuntimeError, SafetensorError,
            zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)  # fmt: skip


_BY_ENDING = {
    'safetensors': _safetensors,
    'npz': _npz,
    **dict.fromkeys(('pth', 'pt', 'bin', 'ckpt', 'tar'), _torch),
}
