"""Files that are damaged, hostile or of no use: one line each, and nothing of them is run."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from big_ssl.errors import InputError
from big_ssl.models.resnet import ResNet
from big_ssl.train import init_from
from big_ssl.weights import files
from tests import peers
from tests.weights import networks


def small() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f'layer{i}': rng.normal(size=(3, 4)).astype(np.float32) for i in range(3)}


def npz(arrays) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def torch_file(found) -> bytes:
    torch = peers.torch()
    content = io.BytesIO()
    torch.save(found, content)
    return content.getvalue()


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        files.read(str(path))
    message = str(caught.value)
    assert str(path) in message and '\n' not in message and len(message) < 600
    return message


CONTENTS = {
    'safetensors': lambda: safetensors.numpy.save(small()),
    'npz': lambda: npz(small()),
    'pth': lambda: torch_file({'state_dict': _tensors()}),
}


def _tensors():
    torch = peers.torch()
    return {name: torch.from_numpy(array) for name, array in small().items()}


@pytest.mark.parametrize('ending', CONTENTS)
def test_arrays_as_they_were_saved(tmp_path, ending):
    path = tmp_path / f'weights.{ending}'
    path.write_bytes(CONTENTS[ending]())
    found = files.read(str(path)).arrays
    assert found.keys() == small().keys()
    for name, array in small().items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.float32


@pytest.mark.parametrize('ending', CONTENTS)
def test_truncated(tmp_path, ending):
    content = CONTENTS[ending]()
    for length in (0, 1, 7, 8, 9, 30, len(content) // 2, len(content) - 1):
        refused(tmp_path / f'weights.{ending}', content[:length])


@pytest.mark.parametrize('ending', CONTENTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bytes_changed_are_read_or_refused(tmp_path_factory, ending, data):
    """Whatever a library makes of them: arrays, or one line; never another exception."""
    content = bytearray(CONTENTS[ending]())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp('fuzz') / f'weights.{ending}'
    path.write_bytes(content)
    try:
        found = files.read(str(path))
    except InputError as error:
        assert '\n' not in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in found.arrays.values())


def test_a_file_of_pytorch_that_calls_with_too_little(tmp_path):
    torch = peers.torch()

    class Damaged:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, ()

    content = io.BytesIO()
    torch.save({'w': Damaged()}, content)
    assert 'missing' in refused(tmp_path / 'weights.pth', content.getvalue())


def test_a_header_that_promises_too_much(tmp_path):
    """Sizes are checked before memory is asked for."""
    path = tmp_path / 'weights.safetensors'
    assert 'eader' in refused(path, (1 << 60).to_bytes(8, 'little') + b'{}')
    entry = {'w': {'dtype': 'F32', 'shape': [1 << 40], 'data_offsets': [0, 1 << 42]}}
    header = json.dumps(entry).encode()
    refused(path, len(header).to_bytes(8, 'little') + header)
    array = b'\x93NUMPY\x01\x00'
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        archive.writestr('w.npy', array + len(head).to_bytes(2, 'little') + head)
    refused(tmp_path / 'weights.npz', content.getvalue())


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('ending', ['pth', 'npz'])
def test_a_pickle_that_would_run_code_does_not(tmp_path, ending):
    made = tmp_path / 'made_by_the_file'
    if ending == 'pth':
        content = torch_file({'layer1.0.conv1.weight': Payload(made)})
        assert 'more than plain tensors' in refused(tmp_path / 'weights.pth', content)
        plain = pickle.dumps({'layer1.0.conv1.weight': Payload(made)})
        refused(tmp_path / 'weights.pt', plain)
    else:
        content = npz({'w': np.array([Payload(made)], dtype=object)})
        assert 'pickle' in refused(tmp_path / 'weights.npz', content)
    assert not made.exists()
    pickle.loads(pickle.dumps(Payload(made)))
    assert made.exists()  # run by whoever reads it otherwise


@pytest.mark.parametrize(
    'name, problem',
    [
        ('weights.h5', 'neither the workdir of a big_ssl run nor .safetensors'),
        ('weights.npz', 'no such file'),
        ('weights.safetensors', 'no such file'),
    ],
)
def test_files_that_are_not_there(tmp_path, name, problem):
    with pytest.raises(InputError, match=problem):
        init_from.load(str(tmp_path / name))


def _own(change=None) -> dict[str, np.ndarray]:
    """A plain .npz of a ResNet-18 by our own names, with one array changed."""
    import jax
    from flax import traverse_util

    shapes = jax.eval_shape(
        lambda: ResNet(18, 0.25).init(jax.random.key(0), networks.images(), train=False)
    )
    nested = {name: {'encoder': tree} for name, tree in shapes.items()}
    arrays = {
        name: np.ones(leaf.shape, np.float32)
        for name, leaf in traverse_util.flatten_dict(nested, sep='/').items()
    }
    if change is not None:
        name = 'params/encoder/stage1/block1/conv1/kernel'
        arrays[name] = change(arrays[name])
    return arrays


@pytest.mark.parametrize(
    'change, problem',
    [
        (None, None),
        (lambda a: a.astype(np.float64), None),
        (lambda a: a.astype(np.float16), None),
        (lambda a: a.astype(np.int32), 'is of int32, not of real numbers'),
        (lambda a: a.astype(np.complex64), 'is of complex64, not of real numbers'),
        (lambda a: a.astype('U3'), 'is of <U3, not of real numbers'),
        (lambda a: a * np.nan, 'holds values that are not finite'),
        (lambda a: np.full(a.shape, 1e300), 'holds values that are not finite'),
        (lambda a: a[..., :3], r'stage1/block1/conv1/kernel is \(3, 3, 16, 3\), here'),
    ],
)
def test_plain_npz_of_our_own_names(tmp_path, change, problem):
    path = tmp_path / 'weights.npz'
    path.write_bytes(npz(_own(change)))
    source = init_from.load(str(path))
    assert source.settings['model.depth'] == 18 and source.settings['model.width'] == 0.25
    if problem is None:
        found = networks.variables_of(ResNet(18, 0.25), source)
        kernel = found['params']['stage1']['block1']['conv1']['kernel']
        assert kernel.dtype == np.float32 and (kernel == 1).all()
        return
    with pytest.raises(InputError, match=problem):
        networks.variables_of(ResNet(18, 0.25), source)


def test_names_of_nobody(tmp_path):
    path = tmp_path / 'weights.npz'
    path.write_bytes(npz(small()))
    with pytest.raises(InputError, match='names of .*torchvision .* but layer0, layer1'):
        init_from.load(str(path))
