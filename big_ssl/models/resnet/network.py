"""ResNet encoders (He et al. 2016, arXiv:1512.03385) of any width, ending in pooled features."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from big_ssl.models.convolution import conv_general_dilated
from big_ssl.models.inputs import NORMALIZATIONS, normalize
from big_ssl.models.stages import PRODUCT, REMAT, Stage, max_pool, rematerialised, require

BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
STAGE_SIZES = BASIC_DEPTHS | BOTTLENECK_DEPTHS
STEMS = ('standard', 'small_images')
# Of strided layers: rule of the convolutions, rule of the max-pool.
PADDINGS = {'torch': ('torch', 'torch'), 'same': ('same', 'same'), 'simclr': ('torch', 'same')}
Layer = Callable[[Array], Array]


class ResNet(nn.Module):
    """A post-activation ResNet without classifier, stride in the 3x3 convolution of a block.

    Parameters and batch statistics are float32 whatever `dtype`. Batch normalisation has decay 0.9
    and epsilon 1e-5 and computes in float32; under `jax.jit` its statistics are those of the whole
    sharded batch, and its running variance is an average of biased variances. The last scale of a
    block starts at zero (Goyal et al. 2017, arXiv:1706.02677, section 5.1). Convolution kernels
    start normal with variance 2 / fan_out (He et al. 2015, arXiv:1502.01852), as in torchvision;
    the SimCLR code draws variance 1 / fan_in.

    Attributes:
      depth: one of STAGE_SIZES.
      width: multiplier of the channels of the stem and every stage, 0.25 to 4.
      stem: 'standard', a 7x7 convolution and a 3x3 max-pool, both of stride 2; or 'small_images', a
        3x3 convolution of stride 1 (SimCLR, appendix B.9), for images of up to 64 pixels.
      padding: 'torch' pads k // 2 on both sides; 'same' is TensorFlow's rule, under which strided
        layers pad more at the end; 'simclr' pads convolutions by the first and the max-pool by the
        second rule, as SimCLR's code does.
      normalization: of the images, one of `inputs.NORMALIZATIONS`.
      dtype: of the convolutions; bfloat16 on accelerators.
      remat: 'none' keeps for the backward pass what differentiation asks for; 'norms' keeps the
        outputs of convolutions and computes normalisations and ReLUs again, 'blocks' keeps the
        inputs of blocks alone (Chen et al. 2016, arXiv:1604.06174).
      scan: the equal blocks of a stage are one loop over their parameters instead of a program
        each, which compiles sooner; the variables are those of the unrolled network.
    """

    depth: int = 50
    width: float = 1
    stem: str = 'standard'
    padding: str = 'torch'
    normalization: str = 'none'
    dtype: Any = jnp.float32
    remat: str = 'none'
    scan: bool = False

    def __post_init__(self):
        super().__post_init__()
        require('depth', self.depth, tuple(STAGE_SIZES))
        require('stem', self.stem, STEMS)
        require('padding', self.padding, tuple(PADDINGS))
        require('normalization', self.normalization, tuple(NORMALIZATIONS))
        require('remat', self.remat, ('none', *REMAT))

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n features']:
        """Maps images in [0, 1] to the last feature map's mean, float32 [n, feature_size]."""
        images = normalize(images, self.normalization)
        channels = _stem_channels(self.width)
        stem = functools.partial(_stem, channels=channels, train=train)
        x = rematerialised(stem, self.remat)(self, images)
        for index, blocks in enumerate(STAGE_SIZES[self.depth]):
            x = Stage(
                block=BottleneckBlock if self.depth in BOTTLENECK_DEPTHS else BasicBlock,
                settings={'padding': PADDINGS[self.padding][0], 'dtype': self.dtype},
                blocks=blocks,
                channels=channels * 2**index,
                stride=1 if index == 0 else 2,
                remat=self.remat,
                scan=self.scan,
                name=f'stage{index + 1}',
            )(x, train)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


class Block(nn.Module):
    """What the two kinds of residual block share: `channels` inside, `stride` in a 3x3."""

    channels: int
    stride: int
    padding: str
    dtype: Any

    def layers(self, train: bool) -> tuple[Callable[..., Layer], Callable[..., nn.BatchNorm]]:
        """Constructors of a convolution and of a normalisation."""
        conv = functools.partial(_conv, padding=self.padding, dtype=self.dtype)
        return conv, functools.partial(_norm, train, self.dtype)


class BasicBlock(Block):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016, figure 5 left)."""

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n h2 w2 k']:
        conv, norm = self.layers(train)
        y = conv(self.channels, 3, self.stride, name='conv1')(x)
        y = nn.relu(norm('bn1')(y))
        y = conv(self.channels, 3, 1, name='conv2')(y)
        y = norm('bn2', nn.initializers.zeros)(y)
        return nn.relu(_shortcut(x, y.shape, self.stride, conv, norm) + y)


class BottleneckBlock(Block):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, 4 * channels out (figure 5 right)."""

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n h2 w2 k']:
        conv, norm = self.layers(train)
        y = conv(self.channels, 1, 1, name='conv1')(x)
        y = nn.relu(norm('bn1')(y))
        y = conv(self.channels, 3, self.stride, name='conv2')(y)
        y = nn.relu(norm('bn2')(y))
        y = conv(4 * self.channels, 1, 1, name='conv3')(y)
        y = norm('bn3', nn.initializers.zeros)(y)
        return nn.relu(_shortcut(x, y.shape, self.stride, conv, norm) + y)


def feature_size(depth: int, width: float = 1) -> int:
    """The length of the features of `ResNet(depth, width)`.

    Raises:
      ValueError: for an unknown depth.
    """
    require('depth', depth, tuple(STAGE_SIZES))
    return _stem_channels(width) * 8 * (4 if depth in BOTTLENECK_DEPTHS else 1)


def depth_of(blocks: tuple[int, ...], bottlenecks: bool) -> int:
    """The depth of a network of so many blocks in each stage.

    Raises:
      ValueError: none has them.
    """
    for depth, sizes in (BOTTLENECK_DEPTHS if bottlenecks else BASIC_DEPTHS).items():
        if sizes == blocks:
            return depth
    kind = 'bottleneck' if bottlenecks else 'basic'
    raise ValueError(f'stages of {blocks} {kind} blocks are those of no known depth')


def _shortcut(x, shape, stride, conv, norm):
    """The block's input, projected where the block changes its shape (He et al. 2016, option B)."""
    if x.shape == shape:
        return x
    return norm('bn_shortcut')(conv(shape[-1], 1, stride, name='conv_shortcut')(x))


def _stem(network: ResNet, images: Float[Array, 'n h w c'], channels: int, train: bool) -> Array:
    kernel, stride = (7, 2) if network.stem == 'standard' else (3, 1)
    of_conv, of_pool = PADDINGS[network.padding]
    x = _conv(channels, kernel, stride, of_conv, network.dtype, 'conv_stem')(images)
    x = nn.relu(_norm(train, network.dtype, 'bn_stem')(x))
    return max_pool(x, of_pool) if network.stem == 'standard' else x


def _conv(channels: int, size: int, stride: int, padding: str, dtype: Any, name: str) -> Layer:
    conv = nn.Conv(
        channels,
        (size, size),
        strides=stride,
        padding=size // 2 if padding == 'torch' else 'SAME',
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
        conv_general_dilated=conv_general_dilated,
        name=name,
    )
    return lambda x: checkpoint_name(conv(x), PRODUCT)


def _norm(train: bool, dtype: Any, name: str, scale_init=nn.initializers.ones) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=1e-5,
        dtype=dtype,
        scale_init=scale_init,
        name=name,
    )


def _stem_channels(width: float) -> int:
    return round(64 * width)
