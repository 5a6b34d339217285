"""What a network makes of images in [0, 1] before its first convolution."""

import jax.numpy as jnp
from jaxtyping import Array, Float

# Mean and deviation of red, green and blue.
NORMALIZATIONS = {
    'none': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # SimCLR's code
    'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # torchvision's and timm's weights
    'symmetric': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # to [-1, 1]: BiT (arXiv:1912.11370)
}


def normalize(images: Float[Array, 'n h w 3'], how: str) -> Float[Array, 'n h w 3']:
    """Subtracts the mean and divides by the deviation of one of NORMALIZATIONS."""
    if how == 'none':
        return images
    mean, deviation = (
        jnp.array(values, images.dtype).reshape(1, 1, 1, 3) for values in NORMALIZATIONS[how]
    )
    return (images - mean) / deviation
