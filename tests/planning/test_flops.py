import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from big_ssl.models.resnet import STAGE_SIZES, ResNet
from big_ssl.planning.flops import flops_of
from big_ssl.train.mesh import make_mesh

# Multiply-adds in units of 10^9, classifier included, as torchvision publishes them for 224 px.
TORCHVISION = {18: 1.814, 34: 3.664, 50: 4.089, 101: 7.801, 152: 11.514}


def counted(function, *arguments):
    return flops_of(jax.jit(function).trace(*arguments).jaxpr.jaxpr)


def compilers_count(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()['flops']


def zeros(*shape):
    return jnp.zeros(shape, jnp.float32)


def conv(stride, padding, groups=1, holes=1):
    def function(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (stride, stride),
            padding,
            rhs_dilation=(holes, holes),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=groups,
        )

    return function


@pytest.mark.parametrize('size', [7, 8])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('padding', ['SAME', 'VALID', [(1, 1), (1, 1)], [(3, 3), (2, 0)]])
@pytest.mark.parametrize('kernel', [1, 3])
def test_a_convolution_and_its_gradients_as_the_compiler_counts(size, stride, padding, kernel):
    function = conv(stride, padding)
    arguments = zeros(2, size, size, 3), zeros(kernel, kernel, 3, 5)
    assert counted(function, *arguments) == compilers_count(function, *arguments)
    out = function(*arguments)
    for which in (0, 1):
        transposed = jax.linear_transpose(
            lambda x: function(*(x if i == which else y for i, y in enumerate(arguments))),  # noqa: B023
            arguments[which],
        )
        assert counted(transposed, out) == compilers_count(transposed, out)


@pytest.mark.parametrize('more', [{'groups': 2}, {'holes': 2}, {'groups': 4, 'holes': 3}])
def test_groups_and_holes(more):
    function = conv(1, 'SAME', **more)
    arguments = zeros(2, 9, 9, 4), zeros(3, 3, 4 // more.get('groups', 1), 8)
    assert counted(function, *arguments) == compilers_count(function, *arguments)


@pytest.mark.parametrize('rule', ['ij,jk->ik', 'bij,bkj->bik', 'ijk,jk->i', 'i,i->', 'i,j->ij'])
def test_products(rule):
    sizes = dict(zip('bijk', (2, 3, 5, 7)))
    left, right = (zeros(*(sizes[i] for i in part)) for part in rule.split('->')[0].split(','))
    every = np.prod([sizes[i] for i in set(rule) - set(',->')])
    assert counted(lambda a, b: jnp.einsum(rule, a, b), left, right) == 2 * every


def product(a, b):
    return a @ b


def test_loops_branches_and_what_is_computed_again():
    a, b = zeros(4, 4), zeros(4, 4)
    once = 2 * 4**3
    assert counted(lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, None, 5)[0], a, b) == (
        5 * once
    )
    assert counted(lambda a, b: jax.lax.map(lambda row: row @ b, a), a, b) == once
    branches = (product, lambda a, b: a @ b @ b, lambda a, b: a)
    assert counted(lambda i, a, b: jax.lax.switch(i, branches, a, b), 0, a, b) == 2 * once
    assert counted(jax.jit(product), a, b) == once
    again = jax.checkpoint(lambda a, b: jnp.sin(a @ b) @ b)
    both = counted(jax.grad(lambda a, b: again(a, b).sum()), a, b)
    assert both == (2 + 1 + 2) * once  # forward, the inner one again, backward


def test_over_all_devices():
    mesh = make_mesh()
    sharded = jax.shard_map(
        lambda a, b: a @ b, mesh=mesh, in_specs=(PartitionSpec('data'), PartitionSpec()),
        out_specs=PartitionSpec('data'),
    )  # fmt: skip
    assert counted(sharded, zeros(16, 4), zeros(4, 4)) == 2 * 16 * 4 * 4


def by_architecture(depth, *, padding_counts):
    """Multiply-adds of one image of 224 px, from He et al. 2016, table 1, the stride in the 3x3."""

    def layer(size, kernel, stride, into, out):
        positions = range(0, size + 2 * (kernel // 2) - kernel + 1, stride)
        taps = sum(
            padding_counts or 0 <= start + k - kernel // 2 < size
            for start in positions
            for k in range(kernel)
        )
        return len(positions), taps**2 * into * out

    size, total = layer(224, 7, 2, 3, 64)
    size, channels = size // 2, 64
    for stage, blocks in enumerate(STAGE_SIZES[depth]):
        inside = 64 * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            if depth < 50:
                plan = [(3, stride, channels, inside), (3, 1, inside, inside)]
            else:
                plan = [(1, 1, channels, inside), (3, stride, inside, inside)]
                plan += [(1, 1, inside, 4 * inside)]
            if stride > 1 or channels != plan[-1][-1]:
                total += layer(size, 1, stride, channels, plan[-1][-1])[1]
            for kernel, step, into, out in plan:
                size, count = layer(size, kernel, step, into, out)
                total += count
            channels = plan[-1][-1]
    return total, channels


@pytest.mark.parametrize('depth', TORCHVISION)
def test_the_networks_published_count(depth):
    """Published with the padding counted; ours is the same sum without it."""
    published, features = by_architecture(depth, padding_counts=True)
    assert round((published + features * 1000) / 1e9, 3) == pytest.approx(TORCHVISION[depth])
    network = ResNet(depth)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=True), images)
    ours = counted(lambda v, x: network.apply(v, x, train=False), variables, images)
    assert ours == 2 * by_architecture(depth, padding_counts=False)[0]


def test_what_depends_on_the_platform_counts_as_on_accelerators():
    def twice_on_cpu(x):
        return jax.lax.platform_dependent(x, cpu=lambda x: x @ x @ x, default=lambda x: x @ x)

    assert flops_of(jax.make_jaxpr(twice_on_cpu)(jnp.ones((4, 4))).jaxpr) == 2 * 4**3
