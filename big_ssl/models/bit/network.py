"""BiT encoders (Kolesnikov et al. 2020, arXiv:1912.11370): pre-activation ResNets of any width.

Group normalisation and weight standardisation take the place of batch normalisation: an image's
features do not depend on the others of its batch.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from big_ssl.models.convolution import conv_general_dilated
from big_ssl.models.inputs import NORMALIZATIONS, normalize
from big_ssl.models.resnet.network import BOTTLENECK_DEPTHS
from big_ssl.models.stages import PRODUCT, REMAT, Stage, max_pool, rematerialised, require

GROUPS = 32
DEPTHS = (50, 101, 152)  # of the published weights: 50x1, 50x3, 101x1, 101x3, 152x2, 152x4


class BiT(nn.Module):
    """A ResNet-v2 (He et al. 2016, arXiv:1603.05027) without classifier, stride in the 3x3.

    As in the published code: the max-pool's border counts as zero, and the last feature map goes
    through one more normalisation and ReLU before its mean is taken.

    Attributes:
      depth: one of DEPTHS.
      width: multiplier of the channels, a multiple of 1/2.
      normalization, dtype, remat, scan: as of `resnet.ResNet`.
    """

    depth: int = 50
    width: float = 1
    normalization: str = 'symmetric'
    dtype: Any = jnp.float32
    remat: str = 'none'
    scan: bool = False

    def __post_init__(self):
        super().__post_init__()
        require('depth', self.depth, DEPTHS)
        require('normalization', self.normalization, tuple(NORMALIZATIONS))
        require('remat', self.remat, ('none', *REMAT))
        if 64 * self.width % GROUPS:
            raise ValueError(f'width {self.width} does not divide into {GROUPS} groups of channels')

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n features']:
        """Maps images in [0, 1] to features, float32 [n, 2048 * width]; `train` changes nothing."""
        images = normalize(images, self.normalization)
        channels = round(64 * self.width)
        x = rematerialised(_stem, self.remat)(self, images)
        for index, blocks in enumerate(BOTTLENECK_DEPTHS[self.depth]):
            x = Stage(
                block=PreactBlock,
                settings={'dtype': self.dtype},
                blocks=blocks,
                channels=channels * 2**index,
                stride=1 if index == 0 else 2,
                remat=self.remat,
                scan=self.scan,
                name=f'stage{index + 1}',
            )(x, train)
        x = nn.relu(_norm(self.dtype, 'gn_last')(x))
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


class PreactBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each after a normalisation and ReLU, 4 * channels out."""

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n h2 w2 k']:
        conv, norm = functools.partial(_conv, self.dtype), functools.partial(_norm, self.dtype)
        out = 4 * self.channels
        y = nn.relu(norm('gn1')(x))
        shortcut = x
        if self.stride != 1 or x.shape[-1] != out:
            shortcut = conv(out, 1, self.stride, 'conv_shortcut')(y)
        y = conv(self.channels, 1, 1, 'conv1')(y)
        y = conv(self.channels, 3, self.stride, 'conv2')(nn.relu(norm('gn2')(y)))
        y = conv(out, 1, 1, 'conv3')(nn.relu(norm('gn3')(y)))
        return shortcut + y


class StandardizedConv(nn.Module):
    """A convolution by a kernel of mean 0 and variance 1 for each of its outputs.

    Qiao et al. 2019 (arXiv:1903.10520), with BiT's 1e-10 beside the variance. Padded by size // 2.
    """

    channels: int
    size: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n h2 w2 k']:
        init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')
        shape = (self.size, self.size, x.shape[-1], self.channels)
        kernel = self.param('kernel', init, shape)
        centred = kernel - kernel.mean(axis=(0, 1, 2), keepdims=True)
        variance = jnp.square(centred).mean(axis=(0, 1, 2), keepdims=True)
        kernel = centred / jnp.sqrt(variance + 1e-10)
        conv = nn.Conv(
            self.channels,
            (self.size, self.size),
            strides=self.stride,
            padding=self.size // 2,
            use_bias=False,
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
            parent=None,
        )
        return checkpoint_name(conv.apply({'params': {'kernel': kernel}}, x), PRODUCT)


def feature_size(width: float = 1) -> int:
    """The length of the features of `BiT(width=width)`."""
    return round(64 * width) * 32


def _stem(network: BiT, images: Float[Array, 'n h w c']) -> Array:
    x = _conv(network.dtype, round(64 * network.width), 7, 2, 'conv_stem')(images)
    return max_pool(x, 'torch', fill=0.0)


def _conv(dtype: Any, channels: int, size: int, stride: int, name: str) -> StandardizedConv:
    return StandardizedConv(channels, size, stride, dtype, name=name)


def _norm(dtype: Any, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name)
