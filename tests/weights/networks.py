"""Networks of ours and of others with random weights whose activations stay of the order of one."""

import jax
import jax.numpy as jnp
import numpy as np

from big_ssl.weights.match import take
from tests import peers


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """By a torch-like name: kernels [out, in, h, w], scales and variances near 1."""
    if len(shape) >= 2:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    low, high = (0.5, 1.5) if name.endswith(('weight', 'running_var')) else (-0.3, 0.3)
    if name.endswith('bn3.weight'):  # the end of a block: the sum of fifty would grow
        low, high = 0.05, 0.15
    return rng.uniform(low, high, shape).astype(np.float32)


def torch_network(name: str, seed: int = 0, classes: int = 0):
    """A timm network in evaluation mode."""
    torch, timm = peers.torch(), peers.timm()
    network, rng = timm.create_model(name, num_classes=classes), np.random.default_rng(seed)
    state = {
        key: value if key.endswith('_tracked') else torch.from_numpy(drawn(key, value.shape, rng))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.eval()


def images(count: int = 2, size: int = 64, seed: int = 0) -> np.ndarray:
    """float32 [count, size, size, 3] in [0, 1]."""
    return np.random.default_rng(seed).uniform(0, 1, (count, size, size, 3)).astype(np.float32)


def variables_of(encoder, source) -> dict:
    """The encoder's variables, taken from a source."""
    shapes = jax.eval_shape(
        lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False)
    )
    nested = {name: {'encoder': tree} for name, tree in shapes.items()}
    taken = take('the file', source.arrays(), source.match, nested, ('encoder',))
    return {name: tree['encoder'] for name, tree in taken.variables.items()}


def settled(source) -> dict:
    """What a ResNet of ours is to be made of."""
    of = source.settings
    return {
        'depth': of['model.depth'],
        'width': of['model.width'],
        'stem': of['model.stem'],
        'padding': of['model.padding'],
        'normalization': of['init_normalization'],
    }
