"""Fine-tuning: cross-entropy of an image's logits and its labels, every weight trained."""

import dataclasses
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from big_ssl.errors import InputError
from big_ssl.losses.classification import sigmoid_xent, softmax_xent, three_way_xent
from big_ssl.methods import Key, Method
from big_ssl.models.networks import ClassifierNetwork

TASK, LABELS = 'supervised', 'all'
KEYS = {'label_smoothing': Key(0.0, 'share of the target spread over all classes', 0, 0.999)}


def check(config: ConfigDict) -> None:
    if config.method.label_smoothing and config.labels.kind == 'multi':
        raise InputError('config: method.label_smoothing is for labels.kind=single')


class Classify(Method):
    figures: ClassVar = {'loss': 'cross-entropy (nats)'}
    title: ClassVar = 'fine-tuning'

    @property
    def network(self) -> nn.Module:
        assert self.task
        return ClassifierNetwork(self.encoder, self.task.outputs)

    def loss(self, params: Any, state: Any, views: Any) -> Any:
        assert self.task
        out, batch_stats = views.through(self.network, params, state.batch_stats, 'logits')
        logits, targets, weights = out[:, 0], views.each['targets'], jnp.ones(len(out))
        if self.task.uncertain_class:
            loss = three_way_xent(logits, targets, weights)
        elif self.task.multilabel:
            loss = sigmoid_xent(logits, targets, weights)
        else:
            smoothing = self.config.method.label_smoothing
            loss = softmax_xent(logits, targets, weights, label_smoothing=smoothing)
        return loss, {}, {'batch_stats': batch_stats}

    def about(self) -> dict[str, Any]:
        assert self.task
        return {'task': dataclasses.asdict(self.task)}


make = Classify
