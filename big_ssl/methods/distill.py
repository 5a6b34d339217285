"""Distillation: a network learns what a teacher says of images that need no labels.

Step 3 of SimCLR v2 (Chen et al. 2020, arXiv:2006.10029), eq. 2, for `imitate=logits`: the teacher
is a fine-tuned classifier, and so is what comes out. With `imitate=features` the teacher is any
encoder. This is how a ResNet-152 (2x) becomes a ResNet-50. The teacher is kept in each checkpoint.
"""

import dataclasses
import functools
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from big_ssl import config as config_lib
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.losses.float32 import normalise
from big_ssl.methods import Key, Method
from big_ssl.models.heads import MLP
from big_ssl.models.networks import ClassifierNetwork, ContrastiveNetwork
from big_ssl.tasks import build, provenance, trained
from big_ssl.train import init_from

TASK, LABELS = 'contrastive', 'none'
KEYS = {
    'teacher': Key('', 'a workdir, or weights of others for imitate=features'),
    'imitate': Key('logits', 'logits of a classifier, or features', choices=('logits', 'features')),
    'temperature': Key(1.0, "of the logits, the teacher's and the student's", 1e-3),
}


@functools.cache
def _source(origin: str) -> init_from.Source:
    return init_from.load(origin)


class Distill(Method):
    figures: ClassVar = {'loss': 'distance to the teacher (logits: cross-entropy in nats)'}
    name: ClassVar = 'distillation'

    @property
    def _source(self) -> init_from.Source:
        if not self.config.method.teacher:
            raise InputError(
                'config: method.name=distill needs a teacher, --config.method.teacher=WORKDIR'
            )
        return _source(self.config.method.teacher)

    @property
    def _classes(self) -> Task | None:
        """Of the teacher's classifier, if that is imitated."""
        if self.config.method.imitate != 'logits':
            return None
        if 'task' not in self._source.about:
            raise InputError(
                f'config: method.teacher={self.config.method.teacher} has no classifier; '
                'fine-tune it first, or take --config.method.imitate=features'
            )
        return trained.task_of(self._source.about)

    @property
    def _teacher(self) -> nn.Module:
        """Its encoder as it was trained, with its classifier if that is imitated."""
        theirs = config_lib.of_weights(self._source.settings)
        theirs.compute, theirs.model.dtype = self.config.compute, self.config.model.dtype
        theirs.image_size = self.config.image_size  # it looks at what its pupil sees
        config_lib.check_backbone(theirs)
        encoder, task = build.make_encoder(theirs), self._classes
        return ClassifierNetwork(encoder, task.outputs) if task else _Bare(encoder)

    @property
    def network(self) -> nn.Module:
        if task := self._classes:
            return ClassifierNetwork(self.encoder, task.outputs)
        shapes = jax.eval_shape(functools.partial(trained.initial, self.config, self._teacher))
        images = jax.ShapeDtypeStruct((1, self.config.image_size, self.config.image_size, 3), 'f4')
        found = jax.eval_shape(functools.partial(self._teacher.apply, train=False), shapes, images)
        return ContrastiveNetwork(self.encoder, MLP((found['features'].shape[-1],)))

    def init(self, variables: Any) -> Any:
        """The teacher."""
        shapes = jax.eval_shape(functools.partial(trained.initial, self.config, self._teacher))
        with jax.ensure_compile_time_eval():  # they are read where shapes alone are asked for, too
            return {'params': {}, 'batch_stats': {}, **self._source.take_all(shapes)}

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        keys, task, teacher = self.config.method, self._classes, state.extra
        ours, theirs = ('logits', 'logits') if task else ('z', 'features')
        out, batch_stats = views.through(self.network, params, state.batch_stats, ours)
        wanted, _ = views.through(
            self._teacher, teacher['params'], teacher['batch_stats'], theirs, train=False
        )
        out, wanted = (x.reshape(-1, x.shape[-1]) for x in (out, wanted))
        with jax.named_scope('loss'):
            if not task:
                loss = feature_distillation(out, wanted)
            elif task.uncertain_class:  # three outcomes of each class
                out, wanted = out.reshape(-1, 3), wanted.reshape(-1, 3)
                loss = distillation(out, wanted, keys.temperature)
            elif task.multilabel:
                loss = sigmoid_distillation(out, wanted, keys.temperature)
            else:
                loss = distillation(out, wanted, keys.temperature)
        return loss, {}, {'batch_stats': batch_stats}

    def about(self) -> dict[str, Any]:
        task = self._classes
        return {'task': dataclasses.asdict(task)} if task else {}

    def trained_on(self) -> dict[str, Any]:
        theirs = provenance.at_step(self._source.about, self._source.step)
        nested = {
            f'trained_on/teacher/{name.removeprefix("trained_on/")}': value
            for name, value in theirs.items()
        }
        return {'trained_on/teacher': self.config.method.teacher, **nested}


class _Bare(nn.Module):
    """An encoder alone, as a network."""

    encoder: nn.Module

    def __call__(self, images: Any, train: bool) -> dict[str, Any]:
        return {'features': self.encoder(images, train)}


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


make = Distill
