"""What sits on the encoder's features: the projection of the contrastive loss, or a classifier.

Both compute in float32 and start their kernels normal with deviation 0.01, as the SimCLR code.
"""

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


class Classifier(nn.Module):
    """One dense layer from features to logits."""

    classes: int

    @nn.compact
    def __call__(self, features: Float[Array, 'n d']) -> Float[Array, 'n classes']:
        return nn.Dense(self.classes, kernel_init=_kernel_init, name='dense')(features)
