import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.losses.ntxent import nt_xent
from big_ssl.methods.supcon import supcon
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

# One label in two groups, two labels or none in one group, one label twice in one group.
LABELS = np.array([2, 0, 2, -1, 1, 0, 1, -1, -1, 2, 0, 5, -1, 1, 0, 2], np.int32)
GROUPS = np.array([3, 0, 3, 3, 1, 1, 9, 7, 7, 4, 4, 6, 6, 2, 0, 8], np.int32)


def value_and_grad(z, labels, groups, temperature, devices=1, **options):
    """The compiled function and its arguments, placed as in training."""
    mesh = make_mesh(devices)
    loss = functools.partial(supcon, temperature=temperature, mesh=mesh, **options)
    function = jax.jit(jax.value_and_grad(loss, has_aux=True))
    return function, place(z, mesh, 'data'), place(labels, mesh), place(groups, mesh)


def run(z, labels, groups, temperature, **options):
    function, *arguments = value_and_grad(z, labels, groups, temperature, **options)
    return function(*arguments)


def naive(z, labels, groups, temperature):
    """Eq. 2 of the paper, anchor by anchor, in float64: loss, top-1, mean number of positives."""
    z = unit(z)
    examples, views, _ = z.shape
    everyone = [(i, u) for i in range(examples) for u in range(views)]
    losses, wins, counts = [], [], []
    for i, u in everyone:
        own, positives, negatives, left_out = [], [], [], []
        for j, w in everyone:
            score = z[i, u] @ z[j, w] / temperature
            if (i, u) == (j, w):
                continue
            if i == j:
                own.append(score)
            if i == j or labels[i] == labels[j] != -1:
                positives.append(score)
            elif groups[i] != groups[j]:
                negatives.append(score)
            else:
                left_out.append(score)
        top = max(positives + negatives)
        denominator = top + np.log(sum(np.exp(np.array(positives + negatives) - top)))
        losses.append(np.mean([denominator - positive for positive in positives]))
        others = negatives + left_out
        wins += [bool(others) and positive > max(others) for positive in own]
        counts.append(len(positives))
    return np.mean(losses), np.mean(wins), np.mean(counts)


@pytest.mark.parametrize('views', [2, 3])
@pytest.mark.parametrize('devices, block', [(1, 1024), (1, 7), (2, 1024), (8, 3), (8, 1)])
def test_equals_the_definition(views, devices, block):
    z = random_views(16, views, 5)
    (loss, figures), _ = run(z, LABELS, GROUPS, 0.2, devices=devices, block=block)
    expected, top1, positives = naive(z, LABELS, GROUPS, 0.2)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=3e-6)
    np.testing.assert_allclose(figures['contrastive_top1'], top1, rtol=1e-6)
    np.testing.assert_allclose(figures['positives'], positives, rtol=1e-6)
    assert 0.1 < top1 < 0.9


@pytest.mark.parametrize('views', [2, 3])
def test_gradient_equals_central_differences(views):
    z = random_views(6, views, 3)
    labels, groups = np.array([0, 1, -1, 1, 0, -1]), np.array([0, 0, 0, 1, 2, 3])
    expected = differences(lambda z: naive(z, labels, groups, 0.3)[0], z)
    for devices in (1, 2):
        _, gradient = run(z, labels, groups, 0.3, devices=devices, block=5)
        np.testing.assert_allclose(gradient, expected, atol=1e-6 * np.abs(expected).max() + 1e-7)


def test_missing_labels_and_one_patient_by_hand():
    """Four examples on the axes of a plane, both views alike, at temperature 1.

    Patient 0 has a (label 7, east), b (not known, north) and c (label 7, west); patient 1 has d
    (not known, south). So b is in neither sum of a and c, and these are in neither sum of b.
    """
    east, north = np.array([[1.0, 0.0], [0.0, 1.0]])
    z = np.stack([east, north, -east, -north]).astype(np.float32)[:, None].repeat(2, axis=1)
    # a: its view at 1, two of c at -1, two of d at 0; c likewise.
    a = np.log(np.e + 2 / np.e + 2) - (1 - 1 - 1) / 3
    # b: its view at 1, two of d at -1. d: its view at 1, two of b at -1, four of a and c at 0.
    b, d = np.log(np.e + 2 / np.e) - 1, np.log(np.e + 2 / np.e + 4) - 1
    labels, groups = np.array([7, -1, 7, -1]), np.array([0, 0, 0, 1])
    (loss, figures), _ = run(z, labels, groups, 1.0)
    np.testing.assert_allclose(loss, (2 * a + b + d) / 4, rtol=1e-6)
    assert figures['positives'] == (3 + 1 + 3 + 1) / 4
    assert figures['contrastive_top1'] == 1


def test_views_of_the_same_patient_count_for_top1():
    """Two examples of one patient as near to one another as their own views."""
    z = np.ones((4, 2, 3), np.float32) * np.array([1, 1, -1, -1], np.float32)[:, None, None]
    unknown, groups = np.full(4, -1), np.array([0, 0, 1, 2])
    (_, figures), _ = run(z, unknown, groups, 0.1)
    assert figures['contrastive_top1'] == 0 and figures['positives'] == 1


@pytest.mark.parametrize('temperature', [0.1, 0.01])
@pytest.mark.parametrize('devices', [1, 8])
def test_without_labels_and_groups_it_is_nt_xent(temperature, devices):
    z, mesh = random_views(16, 2, 6), make_mesh(devices)
    (loss, figures), gradient = run(
        z, np.full(16, -1), np.arange(16), temperature, devices=devices, block=5
    )
    compared = functools.partial(nt_xent, temperature=temperature, mesh=mesh)
    (expected, metrics), expected_gradient = jax.jit(jax.value_and_grad(compared, has_aux=True))(
        place(z, mesh, 'data'), place(np.arange(16), mesh)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        gradient, expected_gradient, atol=1e-5 * np.abs(expected_gradient).max()
    )
    np.testing.assert_allclose(figures['contrastive_top1'], metrics['contrastive_top1'])
    assert figures['positives'] == 1


def test_all_of_one_label():
    """Every other view is a positive: there is nothing to be more similar than."""
    z = random_views(8, 2, 4)
    (loss, figures), gradient = run(z, np.zeros(8, int), np.arange(8) // 2, 0.1, devices=8)
    np.testing.assert_allclose(loss, naive(z, np.zeros(8), np.arange(8) // 2, 0.1)[0], rtol=2e-6)
    assert figures['contrastive_top1'] == 0 and figures['positives'] == 15
    assert np.isfinite(gradient).all()


def test_temperature_of_a_hundredth():
    z = random_views(16, 2, 4)
    z[0, 1] = -z[0, 0]  # a positive pair at cosine -1: exp(-100) beside exp of the negatives
    (loss, _), gradient = run(z, LABELS, GROUPS, 0.01, block=3)
    np.testing.assert_allclose(loss, naive(z, LABELS, GROUPS, 0.01)[0], rtol=2e-6)
    assert np.isfinite(gradient).all()


def test_zero_vectors_have_finite_gradients():
    z = random_views(16, 2, 4)
    z[2, 1] = z[7] = 0
    (loss, _), gradient = run(z, LABELS, GROUPS, 0.1)
    np.testing.assert_allclose(loss, naive(z, LABELS, GROUPS, 0.1)[0], rtol=2e-6)
    assert np.isfinite(gradient).all()
    (_, _), gradient = run(np.zeros_like(z), LABELS, GROUPS, 0.1)
    assert np.isfinite(gradient).all()


def test_lengths_do_not_matter_and_bfloat16_is_computed_in_float32():
    z = random_views(16, 2, 4).astype(jnp.bfloat16)
    lengths = np.exp2(np.arange(32) % 7 - 3).reshape(16, 2, 1)
    (loss, _), gradient = run((z * lengths).astype(jnp.bfloat16), LABELS, GROUPS, 0.1)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, naive(z, LABELS, GROUPS, 0.1)[0], rtol=2e-6)


def test_figures_carry_no_gradient():
    z, mesh = random_views(16, 2, 4), make_mesh(1)

    def total(z):
        return sum(supcon(z, jnp.array(LABELS), jnp.array(GROUPS), 0.1, mesh=mesh)[1].values())

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(z), np.zeros_like(z))


@pytest.mark.parametrize(
    'shape, labels, groups',
    [((8, 1, 4), 8, 8), ((8, 4), 8, 8), ((8, 2, 4), 7, 8), ((8, 2, 4), 8, 7)],
)
def test_wrong_shapes(shape, labels, groups):
    with pytest.raises(ValueError, match='expected z'):
        supcon(jnp.ones(shape), jnp.arange(labels), jnp.arange(groups), 0.1, mesh=make_mesh(1))


def compile_on(devices, examples, block):
    codes = np.arange(examples)
    function, *arguments = value_and_grad(
        random_views(examples, 2, 16), codes // 3, codes, 0.1, devices=devices, block=block
    )
    lowered = function.lower(*arguments)
    return lowered.as_text(), lowered.compile()


def test_the_program_of_eight_devices():
    """One collective each way, full float32, and no strip of 64 anchors against 1,024 views."""
    text, compiled = compile_on(8, 512, block=64)
    found = collectives(compiled.as_text())
    assert [name for name, _ in found] == ['all-gather', 'all-reduce', 'reduce-scatter']
    assert found[1][1] <= 4
    assert max(map(elements, shapes(compiled.as_text()))) == 512 * 2 * 16
    dots = [line for line in text.splitlines() if 'stablehlo.dot_general' in line]
    assert len(dots) >= 4
    assert all('precision = [HIGHEST, HIGHEST]' in line for line in dots)


def test_memory_grows_with_the_batch_and_not_with_its_square():
    small, large = (
        compile_on(1, examples, block=16)[1].memory_analysis().temp_size_in_bytes
        for examples in (512, 2048)
    )
    assert large < 4.5 * small
