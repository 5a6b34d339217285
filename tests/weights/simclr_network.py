"""SimCLR's network in TensorFlow, written from what its code says, with names as it gives them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf


class Network:
    """A ResNet with bottlenecks; makes its variables as they are first asked for.

    Attributes:
      variables: arrays by the names of a TF1 checkpoint, in the order of SimCLR's code.
    """

    def __init__(self, blocks: tuple[int, ...], width: int, seed: int = 0) -> None:
        self.variables: dict[str, np.ndarray] = {}
        self._blocks, self._width = blocks, width
        self._rng = np.random.default_rng(seed)
        self._made = True
        self(np.zeros((1, 32, 32, 3), np.float32))
        self._made = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Features in evaluation mode."""
        self._convs, self._norms = iter(self._counted()), iter(self._counted())
        x = self._norm(self._conv(images, 64 * self._width, 7, 2))
        x = tf.nn.max_pool2d(tf.nn.relu(x), 3, 2, 'SAME')
        for stage, count in enumerate(self._blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = self._block(x, 64 * self._width * 2**stage, stride, first=not block)
        return tf.reduce_mean(x, axis=[1, 2]).numpy()

    def _counted(self) -> Iterator[str]:
        yield ''
        for number in range(1, 1000):
            yield f'_{number}'

    def _block(self, x, channels, stride, first):
        shortcut = self._norm(self._conv(x, 4 * channels, 1, stride)) if first else x
        y = tf.nn.relu(self._norm(self._conv(x, channels, 1, 1)))
        y = tf.nn.relu(self._norm(self._conv(y, channels, 3, stride)))
        return tf.nn.relu(self._norm(self._conv(y, 4 * channels, 1, 1)) + shortcut)

    def _conv(self, x, channels, size, stride):
        shape = (size, size, x.shape[-1], channels)
        kernel = self._variable(
            f'base_model/conv2d{next(self._convs)}/kernel',
            lambda: self._rng.normal(size=shape) / np.sqrt(np.prod(shape[:3])),
        )
        if stride > 1:
            before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
            x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
        return tf.nn.conv2d(x, kernel, stride, 'SAME' if stride == 1 else 'VALID')

    def _norm(self, x):
        layer = f'base_model/batch_normalization{next(self._norms)}'
        ranges = {'gamma': (0.5, 1.5), 'beta': (-0.3, 0.3),
                  'moving_mean': (-0.3, 0.3), 'moving_variance': (0.5, 1.5)}  # fmt: skip
        gamma, beta, mean, variance = (
            self._variable(f'{layer}/{name}', partial(self._rng.uniform, *span, x.shape[-1:]))
            for name, span in ranges.items()
        )
        return (x - mean) / tf.sqrt(variance + 1e-5) * gamma + beta

    def _variable(self, name, draw):
        if self._made:
            self.variables[name] = np.asarray(draw(), np.float32)
        return self.variables[name]

    def with_head(self, layers: int, size: int = 128) -> dict[str, np.ndarray]:
        """Variables of network, projection head and step, as a pre-training of v2 saves them."""
        found, norms = dict(self.variables), list(self.variables)
        wide = found[norms[-1]].shape[0]
        for layer in range(layers):
            out, place = (wide, size)[layer == layers - 1], f'head_contrastive/nl_{layer}'
            found[f'{place}/dense/kernel'] = self._rng.normal(size=(wide, out)).astype(np.float32)
            names = ['gamma', 'moving_mean', 'moving_variance']
            names += ['beta'] if layer < layers - 1 else []
            for name in names:
                array = self._rng.uniform(0.5, 1.5, out).astype(np.float32)
                found[f'{place}/batch_normalization/{name}'] = array
        for name in list(found):
            found[f'{name}/Momentum'] = np.zeros_like(found[name])
        return found | {'global_step': np.int64(100)}


def save_tf1(variables: dict[str, np.ndarray], prefix: Path) -> str:
    """A checkpoint by names, as tf.train.Saver of TF1 writes it."""
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=names,
        shape_and_slices=[''] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )
    return str(prefix)


def save_tf2(variables: dict[str, np.ndarray], folder: Path) -> str:
    """A SavedModel, whose checkpoint knows variables by objects and tells their names beside."""
    module = tf.Module()
    module.of_network = [
        tf.Variable(value, name=_in_keras(name)) for name, value in variables.items()
    ]
    tf.saved_model.save(module, str(folder))
    return str(folder)


def _in_keras(name: str) -> str:
    """base_model/conv2d_3/kernel → resnet/block_group1/conv2d_fixed_padding_3/conv2d_3/kernel."""
    _, layer, tensor = name.rsplit('/', 2)
    kind, _, number = layer.rpartition('_') if layer[-1].isdigit() else (layer, '', '')
    around = 'conv2d_fixed_padding' if kind == 'conv2d' else 'batch_norm_relu'
    number = f'_{number}' if number else ''
    inner = layer if kind == 'conv2d' else f'sync_{layer}'
    return f'resnet/block_group1/{around}{number}/{inner}/{tensor}'
