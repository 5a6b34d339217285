import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from big_ssl.losses.ntxent import nt_xent
from tests.losses.on_devices import (
    collectives,
    differences,
    elements,
    make_mesh,
    place,
    random_views,
    shapes,
    unit,
)


def value_and_grad(z, groups, temperature, devices=1, **options):
    """The compiled function and its arguments, placed as in training."""
    mesh = make_mesh(devices)
    loss = functools.partial(nt_xent, temperature=temperature, mesh=mesh, **options)
    function = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return function, place(z, mesh, 'data'), place(groups, mesh)


def run(z, groups, temperature, **options):
    function, *arguments = value_and_grad(z, groups, temperature, **options)
    return function(*arguments)


def naive(z, groups, temperature, decoupled=False):
    """The definition, pair by pair, in float64: loss, top-1, share of anchors with a negative."""
    z = unit(z)
    examples, views, _ = z.shape
    losses, wins, anchors = [], [], 0
    for i in range(examples):
        for u in range(views):
            negatives = [
                z[i, u] @ z[j, w] / temperature
                for j in range(examples)
                if groups[j] != groups[i]
                for w in range(views)
            ]
            if not negatives:
                continue
            anchors += 1
            for w in range(views):
                if w != u:
                    positive = z[i, u] @ z[i, w] / temperature
                    scores = np.array([positive, *negatives]) - max(positive, *negatives)
                    losses.append(np.log(np.exp(scores[decoupled:]).sum()) - scores[0])
                    wins.append(positive > max(negatives))
    mean = np.mean(losses) if losses else 0.0
    return mean, np.mean(wins) if wins else 0.0, anchors / (examples * views)


MASKED = np.array([3, 0, 3, 7, 1, 0, 9, 3, 4, 5, 6, 2, 11], np.int32)


@pytest.mark.parametrize('views', [2, 3])
@pytest.mark.parametrize('groups', [np.arange(13, dtype=np.int32), MASKED], ids=['all', 'masked'])
@pytest.mark.parametrize('block', [1024, 8, 1])
def test_equals_the_definition(views, groups, block):
    z = random_views(13, views, 5)
    (loss, metrics), _ = run(z, groups, 0.2, block=block)
    expected, top1, anchors = naive(z, groups, 0.2)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    np.testing.assert_allclose(metrics['contrastive_top1'], top1, rtol=1e-6)
    assert 0.1 < top1 < 0.9
    assert metrics['anchors'] == anchors == 1.0


@pytest.mark.parametrize('views', [2, 3])
def test_gradient_equals_central_differences(views):
    z, groups = random_views(6, views, 3), np.array([0, 1, 1, 2, 3, 0], np.int32)
    _, gradient = run(z, groups, 0.3, block=5)
    expected = differences(lambda z: naive(z, groups, 0.3)[0], z)
    np.testing.assert_allclose(gradient, expected, atol=1e-6 * np.abs(expected).max() + 1e-7)


@pytest.mark.parametrize('views', [2, 3])
def test_equals_optax_without_a_mask(views):
    z = random_views(12, views, 8)
    # Optax's labels say which embeddings are views of one example; it too averages over the pairs.
    labels = jnp.repeat(jnp.arange(12), views)
    with jax.numpy_rank_promotion('allow'):
        expected, expected_gradient = jax.jit(jax.value_and_grad(optax.losses.ntxent))(
            jnp.reshape(z, (-1, 8)), labels, 0.1
        )
    (loss, _), gradient = run(z, np.arange(12), 0.1, block=7)
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    np.testing.assert_allclose(gradient.reshape(-1, 8), expected_gradient, atol=2e-7, rtol=2e-5)


@pytest.mark.parametrize('block', [1024, 3])
def test_eight_devices_equal_one(block):
    z, groups = random_views(24, 2, 6), np.arange(24) // 2
    (loss, metrics), gradient = run(z, groups, 0.1, devices=8, block=block)
    (loss_1, metrics_1), gradient_1 = run(z, groups, 0.1, devices=1)
    np.testing.assert_allclose(loss, naive(z, groups, 0.1)[0], rtol=2e-6)
    np.testing.assert_allclose(loss, loss_1, rtol=1e-6)
    np.testing.assert_allclose(metrics['contrastive_top1'], metrics_1['contrastive_top1'])
    np.testing.assert_allclose(gradient, gradient_1, atol=1e-7)


@pytest.mark.parametrize('views', [2, 3])
@pytest.mark.parametrize('devices, block', [(1, 1024), (1, 5), (2, 1024), (8, 3)])
def test_decoupled_equals_the_definition(views, devices, block):
    z, groups = random_views(16, views, 5), np.array([*MASKED, 3, 12, 0])
    (loss, metrics), _ = run(z, groups, 0.2, devices=devices, block=block, decoupled=True)
    expected, top1, anchors = naive(z, groups, 0.2, decoupled=True)
    np.testing.assert_allclose(loss, expected, rtol=5e-6)
    np.testing.assert_allclose(metrics['contrastive_top1'], top1, rtol=1e-6)
    assert metrics['anchors'] == anchors == 1.0


def test_decoupled_gradient_equals_central_differences():
    z, groups = random_views(6, 3, 3), np.array([0, 1, 1, 2, 3, 0])
    _, gradient = run(z, groups, 0.3, block=5, decoupled=True)
    expected = differences(lambda z: naive(z, groups, 0.3, decoupled=True)[0], z)
    np.testing.assert_allclose(gradient, expected, atol=1e-6 * np.abs(expected).max() + 1e-7)


def test_decoupled_two_pairs_by_hand():
    """Every positive has cosine 1 and every negative -1; the loss is below 0."""
    z = np.broadcast_to(np.array([[[1.0, 0.0]], [[-3.0, 0.0]]], np.float32), (2, 2, 2))
    (loss, _), _ = run(z, np.arange(2), 0.5, decoupled=True)
    np.testing.assert_allclose(loss, np.log(2) - 2 / 0.5, rtol=1e-6)


def test_temperature_of_a_hundredth():
    z = random_views(8, 2, 4)
    z[0, 1] = -z[0, 0]  # a positive pair at cosine -1: exp(-100) beside exp of the negatives
    groups = np.arange(8)
    (loss, _), gradient = run(z, groups, 0.01, block=3)
    np.testing.assert_allclose(loss, naive(z, groups, 0.01)[0], rtol=2e-6)
    expected = differences(lambda z: naive(z, groups, 0.01)[0], z, step=1e-7)
    np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())


def test_negatives_far_below_the_positives_are_not_lost():
    """All negatives at cosine -1: the exponentials underflow unless their maximum is taken."""
    z = np.broadcast_to(np.array([[[1.0, 0.0]], [[-1.0, 0.0]]], np.float32), (2, 2, 2))
    expected = np.log1p(2 * np.exp(-2 / 0.03))
    (loss, metrics), _ = run(z, np.arange(2), 0.03)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert metrics['contrastive_top1'] == 1


@pytest.mark.parametrize('decoupled', [False, True])
def test_without_any_negative_nothing_is_learnt(decoupled):
    z = random_views(8, 2, 4)
    for devices in (1, 8):
        (loss, metrics), gradient = run(
            z, np.full(8, 5), 0.1, devices=devices, block=3, decoupled=decoupled
        )
        assert loss == 0 and metrics['anchors'] == 0 and metrics['contrastive_top1'] == 0
        np.testing.assert_array_equal(gradient, np.zeros_like(z))


@pytest.mark.parametrize('decoupled', [False, True])
def test_a_zero_vector_has_a_finite_gradient(decoupled):
    z = random_views(6, 2, 4)
    z[2, 1] = 0
    (loss, _), gradient = run(z, np.arange(6), 0.1, decoupled=decoupled)
    np.testing.assert_allclose(loss, naive(z, np.arange(6), 0.1, decoupled)[0], rtol=2e-6)
    assert np.isfinite(gradient).all()


def test_lengths_do_not_matter_and_bfloat16_is_computed_in_float32():
    z = random_views(10, 2, 4).astype(jnp.bfloat16)
    lengths = np.exp2(np.arange(20) % 7 - 3).reshape(10, 2, 1)
    groups = np.arange(10)
    (loss, _), gradient = run((z * lengths).astype(jnp.bfloat16), groups, 0.1)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, naive(z, groups, 0.1)[0], rtol=2e-6)


def test_metrics_carry_no_gradient():
    z, mesh = random_views(6, 2, 4), make_mesh(1)
    for name in ('contrastive_top1', 'anchors'):
        metric = jax.grad(lambda z, name=name: nt_xent(z, jnp.arange(6), 0.1, mesh=mesh)[1][name])
        np.testing.assert_array_equal(jax.jit(metric)(z), np.zeros_like(z))


@pytest.mark.parametrize('shape, groups', [((8, 1, 4), 8), ((8, 4), 8), ((8, 2, 4), 7)])
def test_wrong_shapes(shape, groups):
    with pytest.raises(ValueError, match='expected z'):
        nt_xent(jnp.ones(shape), jnp.arange(groups), 0.1, mesh=make_mesh(1))


@functools.cache
def programs():
    """The lowered and the compiled text of loss and gradient, 512 examples on 8 devices."""
    z, groups = random_views(512, 2, 16), np.arange(512)
    function, *arguments = value_and_grad(z, groups, 0.1, devices=8, block=64)
    lowered = function.lower(*arguments)
    return lowered.as_text(), lowered.compile().as_text()


def test_one_all_gather_and_one_reduce_scatter():
    found = collectives(programs()[1])
    assert [name for name, _ in found] == ['all-gather', 'all-reduce', 'reduce-scatter']
    assert found[1][1] <= 4


def test_no_array_is_larger_than_the_projections():
    """Neither 512 x 512 similarities nor a strip of 64 anchors against all 1,024 views."""
    assert max(map(elements, shapes(programs()[1]))) == 512 * 2 * 16


def compile_on_one_device(examples, block, dim=16):
    z, groups = random_views(examples, 2, dim), np.arange(examples)
    function, *arguments = value_and_grad(z, groups, 0.1, block=block)
    return function.lower(*arguments).compile()


def test_no_array_is_larger_than_the_projections_on_one_device():
    compiled = compile_on_one_device(512, block=64)
    assert max(map(elements, shapes(compiled.as_text()))) == 512 * 2 * 16


def test_memory_grows_with_the_batch_and_not_with_its_square():
    small, large = (
        compile_on_one_device(examples, block=16).memory_analysis().temp_size_in_bytes
        for examples in (512, 2048)
    )
    assert large < 4.5 * small


def test_65536_examples_take_less_than_a_gigabyte_on_one_device():
    """Loss and gradient with all that comes in and goes out; z itself is 67 MB, z zᵀ 69 GB."""
    found = compile_on_one_device(65_536, block=1024, dim=128).memory_analysis()
    given = found.argument_size_in_bytes + found.output_size_in_bytes
    assert 2 * 65_536 * 2 * 128 * 4 < given + found.temp_size_in_bytes < 1e9


def test_products_ask_for_full_float32():
    dots = [line for line in programs()[0].splitlines() if 'stablehlo.dot_general' in line]
    assert len(dots) >= 4
    assert all('precision = [HIGHEST, HIGHEST]' in line for line in dots)
