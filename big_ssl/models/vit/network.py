"""Vision transformers (Dosovitskiy et al. 2021, arXiv:2010.11929), ending in their class token."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from big_ssl.models.inputs import NORMALIZATIONS, normalize
from big_ssl.models.stages import PRODUCT, REMAT, rematerialised, require, scanned

HEAD = 64  # numbers of an attention head, in ViT-Ti, S, B and L alike
_xavier = nn.initializers.xavier_uniform()
_normal = nn.initializers.normal(0.02)


class ViT(nn.Module):
    """Pre-norm blocks over the patches of an image and a class token, without classifier.

    Kernels start as in the published code (google-research/vision_transformer): Glorot's, and that
    of patches with variance 1 / fan_in. Layer norms, the softmax of the attention and the sum that
    the blocks add to are float32 whatever `dtype`.

    Attributes:
      depth: blocks.
      width: numbers of a token, a multiple of HEAD.
      patch: side in pixels.
      registers: further tokens that belong to no patch (Darcet et al. 2024, arXiv:2309.16588).
      layer_scale: whether what a block adds has a scale, 1e-5 at first (Touvron et al. 2021,
        arXiv:2103.17239).
      image_size: side in pixels, a multiple of `patch`; each patch has a position of its own.
      normalization: of the images, one of `inputs.NORMALIZATIONS`.
      dtype: of the products; bfloat16 on accelerators.
      remat, scan: as of `resnet.ResNet`.
    """

    depth: int = 12
    width: int = 384
    patch: int = 16
    registers: int = 0
    layer_scale: bool = False
    image_size: int = 224
    normalization: str = 'none'
    dtype: Any = jnp.float32
    remat: str = 'none'
    scan: bool = False

    def __post_init__(self):
        super().__post_init__()
        require('normalization', self.normalization, tuple(NORMALIZATIONS))
        require('remat', self.remat, ('none', *REMAT))
        if self.width % HEAD:
            raise ValueError(f'width {self.width} does not divide into heads of {HEAD}')
        if self.image_size % self.patch:
            raise ValueError(f'{self.image_size} pixels do not divide into patches of {self.patch}')

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w 3'], train: bool) -> Float[Array, 'n width']:
        """Maps images in [0, 1] to the class token, float32; `train` changes nothing."""
        patches = _patches(normalize(images, self.normalization), self.patch)
        x = _dense(self.width, self.dtype, 'patch_embed', nn.initializers.lecun_normal())(patches)
        x = x + self.param('pos_embed', _normal, (x.shape[1], self.width))[None]
        first = [self.param('cls_token', _normal, (1, self.width))]
        if self.registers:
            first.append(self.param('registers', _normal, (self.registers, self.width)))
        tokens = jnp.concatenate(first)
        tokens = jnp.broadcast_to(tokens[None], (images.shape[0], *tokens.shape))
        x = self._blocks(jnp.concatenate([tokens, x], axis=1), train)
        return _norm(jnp.float32, 'norm')(x[:, 0])

    def _blocks(self, x: Float[Array, 'n tokens width'], train: bool) -> Array:
        names = [f'block{index + 1}' for index in range(self.depth)]
        looped = self.scan and not self.is_initializing()
        kind = rematerialised(Block, self.remat, static_argnums=2, prevent_cse=not looped)
        if looped:
            block = kind(self.layer_scale, self.dtype, parent=None)
            return scanned(self, block, names, x, train)
        for name in names:
            x = kind(self.layer_scale, self.dtype, name=name)(x, train)
        return x


class Block(nn.Module):
    """Attention of all tokens to all, then two dense layers on each, both added to what came in."""

    layer_scale: bool
    dtype: Any

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n tokens width'], train: bool
    ) -> Float[Array, 'n tokens width']:
        width, heads = x.shape[-1], x.shape[-1] // HEAD
        y = _dense(3 * width, self.dtype, 'qkv')(_norm(self.dtype, 'norm1')(x))
        query, key, value = jnp.moveaxis(y.reshape(*y.shape[:2], 3, heads, HEAD), 2, 0)
        y = jax.nn.dot_product_attention(query, key, value).reshape(x.shape)
        x = x + self._scaled('ls1', _dense(width, self.dtype, 'proj')(y))
        y = _dense(4 * width, self.dtype, 'fc1')(_norm(self.dtype, 'norm2')(x))
        y = _dense(width, self.dtype, 'fc2')(nn.gelu(y, approximate=False))
        return x + self._scaled('ls2', y)

    def _scaled(self, name: str, x: Array) -> Array:
        if not self.layer_scale:
            return x
        return x * self.param(name, nn.initializers.constant(1e-5), x.shape[-1:])[None, None]


def _patches(images: Float[Array, 'n h w 3'], size: int) -> Float[Array, 'n patches size*size*3']:
    """Patches row by row, the pixels of each row by row."""
    n, height, width, channels = images.shape
    rows, columns = height // size, width // size
    x = images.reshape(n, rows, size, columns, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, size * size * channels)


def _dense(features: int, dtype: Any, name: str, init: Any = _xavier) -> Any:
    dense = nn.Dense(features, dtype=dtype, kernel_init=init, name=name)
    return lambda x: checkpoint_name(dense(x), PRODUCT)


def _norm(dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, use_fast_variance=False, name=name)
