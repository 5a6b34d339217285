"""What sits on the encoder's features: a projection of some kind, or a classifier; all in float32.

SimCLR's projection and the classifier start their kernels normal with deviation 0.01, as the SimCLR
code.
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

_kernel_init = nn.initializers.normal(0.01)


class ProjectionHead(nn.Module):
    """Dense layers with batch normalisation, as wide as the features, down to `size` numbers.

    The head of SimCLR's code: no dense layer has a bias, hidden layers end in a ReLU, and the last
    normalisation has a scale but no shift. The loss normalises the output's length.
    """

    layers: int = 2
    size: int = 128

    @nn.compact
    def __call__(self, features: Float[Array, 'n d'], train: bool) -> Float[Array, 'n size']:
        x = features
        for index in range(1, self.layers + 1):
            last = index == self.layers
            width = self.size if last else features.shape[-1]
            x = nn.Dense(width, use_bias=False, kernel_init=_kernel_init, name=f'dense{index}')(x)
            x = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                use_bias=not last,
                name=f'bn{index}',
            )(x)
            x = x if last else nn.relu(x)
        return x


class MLP(nn.Module):
    """Dense layers of these widths, batch normalisation and a ReLU behind each but the last.

    The head of BYOL and VICReg (Grill et al. 2020, arXiv:2006.07733, section 3.3; Bardes et al.
    2022, arXiv:2105.04906, section 4.2): the last layer has neither bias nor normalisation. The
    biases of the others would be taken out by the normalisation, and are left out.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, 'n d'], train: bool) -> Float[Array, 'n size']:
        for index, width in enumerate(self.widths, start=1):
            x = nn.Dense(width, use_bias=False, name=f'dense{index}')(x)
            if index < len(self.widths):
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=1e-5,
                    name=f'bn{index}',
                )(x)
                x = nn.relu(x)
        return x


class Classifier(nn.Module):
    """One dense layer from features to logits."""

    classes: int

    @nn.compact
    def __call__(self, features: Float[Array, 'n d']) -> Float[Array, 'n classes']:
        return nn.Dense(self.classes, kernel_init=_kernel_init, name='dense')(features)
