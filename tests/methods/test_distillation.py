import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from big_ssl.methods.distill import distillation, feature_distillation, sigmoid_distillation
from tests.losses.on_devices import differences, make_mesh, place, unit

RNG = np.random.default_rng(0)
STUDENT = RNG.normal(size=(16, 5)).astype(np.float32) * 3
TEACHER = RNG.normal(size=(16, 5)).astype(np.float32) * 3
TEMPERATURE = 0.7


def naive_softmax(student, teacher):
    """Eq. 2 of SimCLRv2, label by label, in float64."""
    losses = []
    for s, t in zip(np.asarray(student, np.float64), np.asarray(teacher, np.float64)):
        student_p = np.exp(s / TEMPERATURE) / sum(np.exp(s / TEMPERATURE))
        teacher_p = np.exp(t / TEMPERATURE) / sum(np.exp(t / TEMPERATURE))
        losses.append(-sum(teacher_p * np.log(student_p)))
    return np.mean(losses)


def naive_sigmoid(student, teacher):
    losses = []
    for s, t in zip(np.ravel(student).astype(np.float64), np.ravel(teacher).astype(np.float64)):
        student_p, teacher_p = (1 / (1 + np.exp(-x / TEMPERATURE)) for x in (s, t))
        losses.append(-teacher_p * np.log(student_p) - (1 - teacher_p) * np.log(1 - student_p))
    return np.mean(losses)


def naive_features(student, teacher):
    return np.mean([2 - 2 * sum(s * t) for s, t in zip(unit(student), unit(teacher))])


LOSSES = [
    (functools.partial(distillation, temperature=TEMPERATURE), naive_softmax),
    (functools.partial(sigmoid_distillation, temperature=TEMPERATURE), naive_sigmoid),
    (feature_distillation, naive_features),
]
each_loss = pytest.mark.parametrize('loss, naive', LOSSES, ids=['softmax', 'sigmoid', 'features'])


def run(loss, student, teacher, devices=1):
    """The loss and the gradients of both arguments."""
    mesh = make_mesh(devices)
    function = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return function(place(student, mesh, 'data'), place(teacher, mesh, 'data'))


@each_loss
@pytest.mark.parametrize('devices', [1, 2, 8])
def test_equals_the_definition(loss, naive, devices):
    value, (gradient, of_teacher) = run(loss, STUDENT, TEACHER, devices)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, naive(STUDENT, TEACHER), rtol=1e-5)
    expected = differences(lambda student: naive(student, TEACHER), STUDENT)
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(of_teacher, np.zeros_like(TEACHER))


def test_two_classes_by_hand():
    """A teacher of 3 to 1 at temperature 2, a student that has no opinion."""
    teacher, student = np.array([[2 * np.log(3), 0]], np.float32), np.array([[0, 4]], np.float32)
    student_log_p = -np.log(1 + np.e**2) + np.array([0, 2])
    expected = -(0.75 * student_log_p[0] + 0.25 * student_log_p[1])
    np.testing.assert_allclose(distillation(student, teacher, 2.0), expected, rtol=1e-6)
    # sigmoid(log 3) is 0.75 too, and the second teacher says a half.
    expected = (np.log(2) + np.log1p(np.e**2) - 0.5 * 2) / 2
    np.testing.assert_allclose(sigmoid_distillation(student, teacher, 2.0), expected, rtol=1e-6)


@each_loss
def test_zero_vectors_have_finite_gradients(loss, naive):
    student, teacher = STUDENT.copy(), TEACHER.copy()
    student[3] = teacher[3] = student[4] = teacher[5] = 0
    value, gradients = run(loss, student, teacher)
    np.testing.assert_allclose(value, naive(student, teacher), rtol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@each_loss
def test_bfloat16_is_computed_in_float32(loss, naive):
    student, teacher = STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16)
    value, (gradient, _) = run(loss, student, teacher)
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, naive(student, teacher), rtol=1e-5)


def test_extreme_logits_stay_finite():
    student, teacher = jnp.array([[200.0, -200.0]]), jnp.array([[-200.0, 200.0]])
    np.testing.assert_allclose(distillation(student, teacher, 0.5), 800)
    np.testing.assert_allclose(sigmoid_distillation(student, teacher, 0.5), 400)


@each_loss
@pytest.mark.parametrize('shape, other', [((8, 4), (8, 1)), ((8, 4), (1, 4)), ((8,), (8,))])
def test_wrong_shapes(loss, naive, shape, other):
    with pytest.raises(ValueError, match='expected two equal shapes'):
        loss(jnp.ones(shape), jnp.ones(other))
