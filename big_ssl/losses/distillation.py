"""Distillation: a student learns a teacher's soft labels or its features, in float32.

Nothing is learnt through what the teacher says.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from big_ssl.losses.float32 import normalise


def distillation(
    logits: Float[Array, 'n k'], teacher_logits: Float[Array, 'n k'], temperature: float
) -> Float[Array, '']:
    """The mean cross-entropy of softmax(teacher_logits / temperature), in nats.

    Chen et al. 2020 (SimCLRv2, arXiv:2006.10029), eq. 2, which eq. 3 adds labeled examples to. The
    student's logits are divided by `temperature` too; the loss is not multiplied by its square.

    Raises:
      ValueError: for shapes that are not equal and [n, k].
    """
    student, teacher = _student_and_teacher(logits, teacher_logits)
    targets = jax.nn.softmax(teacher / temperature)
    return jnp.mean(optax.softmax_cross_entropy(student / temperature, targets))


def sigmoid_distillation(
    logits: Float[Array, 'n k'], teacher_logits: Float[Array, 'n k'], temperature: float
) -> Float[Array, '']:
    """The mean binary cross-entropy of sigmoid(teacher_logits / temperature), in nats.

    `distillation` for k classes that do not exclude one another, the mean over these too.

    Raises:
      ValueError: for shapes that are not equal and [n, k].
    """
    student, teacher = _student_and_teacher(logits, teacher_logits)
    targets = jax.nn.sigmoid(teacher / temperature)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(student / temperature, targets))


def feature_distillation(
    features: Float[Array, 'n d'], teacher_features: Float[Array, 'n d']
) -> Float[Array, '']:
    """The mean of 2 - 2 cos, the squared distance of the unit vectors.

    Grill et al. 2020 (arXiv:2006.07733), eq. 2, with the teacher's features for the target. A zero
    vector has cosine 0 and a finite gradient.

    Raises:
      ValueError: for shapes that are not equal and [n, d].
    """
    student, teacher = _student_and_teacher(features, teacher_features)
    return 2 - 2 * jnp.mean(jnp.sum(normalise(student) * normalise(teacher), axis=-1))


def _student_and_teacher(student, teacher) -> tuple[Float[Array, 'n k'], Float[Array, 'n k']]:
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(f'expected two equal shapes [n, k], got {student.shape}, {teacher.shape}')
    teacher = jax.lax.stop_gradient(teacher)
    return student.astype(jnp.float32), teacher.astype(jnp.float32)
