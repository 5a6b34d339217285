"""ResNet encoders (He et al. 2016, arXiv:1512.03385) of any width, ending in pooled features."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

BASIC_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
STAGE_SIZES = BASIC_DEPTHS | BOTTLENECK_DEPTHS
STEMS = ('standard', 'small_images')
PADDINGS = ('torch', 'same')
REMAT = {  # what is kept for the backward pass where not everything is
    'norms': jax.checkpoint_policies.save_only_these_names('convolution'),
    'blocks': jax.checkpoint_policies.nothing_saveable,
}
Layer = Callable[[Array], Array]
COLLECTIONS = ('params', 'batch_stats')


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
        layers pad more at the end.
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
    dtype: Any = jnp.float32
    remat: str = 'none'
    scan: bool = False

    def __post_init__(self):
        super().__post_init__()
        _require('depth', self.depth, tuple(STAGE_SIZES))
        _require('stem', self.stem, STEMS)
        _require('padding', self.padding, PADDINGS)
        _require('remat', self.remat, ('none', *REMAT))

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n features']:
        """Maps images to the mean over the last feature map, float32 [n, feature_size]."""
        channels = _stem_channels(self.width)
        stem = functools.partial(_stem, channels=channels, train=train)
        x = _remat(stem, self.remat)(self, images)
        for index, blocks in enumerate(STAGE_SIZES[self.depth]):
            x = Stage(
                block=BottleneckBlock if self.depth in BOTTLENECK_DEPTHS else BasicBlock,
                blocks=blocks,
                channels=channels * 2**index,
                stride=1 if index == 0 else 2,
                padding=self.padding,
                dtype=self.dtype,
                remat=self.remat,
                scan=self.scan,
                name=f'stage{index + 1}',
            )(x, train)
        return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


class Stage(nn.Module):
    """Blocks of equal width, of which the first has the stride."""

    block: type['Block']
    blocks: int
    channels: int
    stride: int
    padding: str
    dtype: Any
    remat: str
    scan: bool

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n h2 w2 k']:
        first, *equal = (f'block{index + 1}' for index in range(self.blocks))
        x = self._block(self.stride, name=first)(x, train)
        if self.scan and len(equal) > 1 and not self.is_initializing():
            return self._scanned(equal, x, train)
        for name in equal:
            x = self._block(1, name=name)(x, train)
        return x

    def _block(self, stride: int, *, looped: bool = False, **options: Any) -> 'Block':
        """A loop alone keeps the compiler from merging what is computed again with the first."""
        block = _remat(self.block, self.remat, static_argnums=2, prevent_cse=not looped)
        return block(self.channels, stride, self.padding, self.dtype, **options)

    def _scanned(
        self, names: Sequence[str], x: Float[Array, 'n h w c'], train: bool
    ) -> Float[Array, 'n h w c']:
        """The blocks of these names one after the other, as a loop over their stacked variables."""
        block = self._block(1, looped=True, parent=None)
        mutable = ['batch_stats'] if train else []

        def apply(x: Array, variables: Any) -> tuple[Array, Any]:
            return block.apply(variables, x, train, mutable=mutable)

        of_blocks: list[Any] = [
            {kind: self.get_variable(kind, name) for kind in COLLECTIONS} for name in names
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_blocks)
        x, updates = jax.lax.scan(apply, x, stacked)
        for i, name in enumerate(names if train else ()):
            own = jax.tree.map(lambda leaf: leaf[i], updates['batch_stats'])  # noqa: B023
            self.put_variable('batch_stats', name, own)
        return x


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
    _require('depth', depth, tuple(STAGE_SIZES))
    return _stem_channels(width) * 8 * (4 if depth in BOTTLENECK_DEPTHS else 1)


def max_pool(x: Float[Array, 'n h w c'], padding: str) -> Float[Array, 'n h2 w2 c']:
    """A 3x3 max-pool of stride 2, padded by the rule `padding` of `ResNet`.

    Nine strided slices instead of `nn.max_pool`, whose gradient takes four times as long on CPU.
    Where maxima tie, they share the gradient.
    """
    pads, outs = [], []
    for size in x.shape[1:3]:
        out = -(-size // 2)
        before = 1 if padding == 'torch' or size % 2 else 0
        pads.append((before, 2 * out + 1 - size - before))
        outs.append(out)
    padded = jnp.pad(x, [(0, 0), *pads, (0, 0)], constant_values=-jnp.inf)
    height, width = (2 * out - 1 for out in outs)
    windows = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return functools.reduce(jnp.maximum, windows)


def _shortcut(x, shape, stride, conv, norm):
    """The block's input, projected where the block changes its shape (He et al. 2016, option B)."""
    if x.shape == shape:
        return x
    return norm('bn_shortcut')(conv(shape[-1], 1, stride, name='conv_shortcut')(x))


def _stem(network: ResNet, images: Float[Array, 'n h w c'], channels: int, train: bool) -> Array:
    kernel, stride = (7, 2) if network.stem == 'standard' else (3, 1)
    x = _conv(channels, kernel, stride, network.padding, network.dtype, 'conv_stem')(images)
    x = nn.relu(_norm(train, network.dtype, 'bn_stem')(x))
    return max_pool(x, network.padding) if network.stem == 'standard' else x


def _remat(target: Any, remat: str, **options: Any) -> Any:
    """A module class, or a function of a module, that keeps less for the backward pass."""
    return target if remat == 'none' else nn.remat(target, policy=REMAT[remat], **options)


def _conv(channels: int, size: int, stride: int, padding: str, dtype: Any, name: str) -> Layer:
    conv = nn.Conv(
        channels,
        (size, size),
        strides=stride,
        padding=size // 2 if padding == 'torch' else 'SAME',
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
        name=name,
    )
    return lambda x: checkpoint_name(conv(x), 'convolution')


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


def _require(name: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        raise ValueError(f'unknown {name} {value!r}; choose one of {", ".join(map(str, choices))}')
