"""A trained network as it leaves: its variables, what it does, and what it must be given."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8

from big_ssl import config as config_lib
from big_ssl import models
from big_ssl.data.labels import Task
from big_ssl.errors import InputError
from big_ssl.models.inputs import NORMALIZATIONS
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build, judged_step, trained
from big_ssl.train import init_from

log = logging.getLogger(__name__)

_HOW = {'parent', 'name', 'dtype', 'remat', 'scan'}  # fields of a Flax module
FEATURES, PROBABILITIES = 'features', 'probabilities'
EXCLUSIVE = 'logits of classes that exclude one another'
SEVERAL = 'logits, one a class'
THREE_WAY = 'three logits a class: negative, positive, uncertain'


@dataclasses.dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes:
      encoder: a module that computes in float32.
      variables: `params` and `batch_stats` of `encoder` and, with the classifier, `classifier`;
        NumPy arrays.
      task: the classes of the classifier; None where only the encoder is exported.
      baked: uint8 images to probabilities, instead of float32 images in [0, 1] to logits.
      settings: the config of the training, by dotted keys.
      about: what was saved beside the weights.
      step: at which they were saved.
      result: the run's `result.json`, if the weights that it judged are these; else nothing.
      not_judged: why a fine-tuned checkpoint has no figures, as a sentence; else ''.
    """

    encoder: nn.Module
    variables: dict[str, Any]
    task: Task | None
    baked: bool
    settings: dict[str, Any]
    about: dict[str, Any]
    step: int
    result: dict[str, Any]
    not_judged: str = ''

    @property
    def image_size(self) -> int:
        return self.settings['image_size']

    @property
    def outputs(self) -> str:
        """What the numbers of an image are."""
        if self.task is None:
            return FEATURES
        if self.baked:
            return PROBABILITIES
        if self.task.uncertain_class:
            return THREE_WAY
        return SEVERAL if self.task.multilabel else EXCLUSIVE

    @property
    def backbone(self) -> models.Backbone:
        return models.load(self.settings['model.name'])

    @property
    def title(self) -> str:
        """What people call the network."""
        keys = {k.removeprefix('model.'): v for k, v in self.settings.items() if 'model.' in k}
        return self.backbone.title(keys)

    @property
    def network(self) -> dict[str, Any]:
        """The encoder's settings, as plain data: its fields but those that say how it computes."""
        fields = {field.name for field in dataclasses.fields(self.encoder)}
        return {name: getattr(self.encoder, name) for name in sorted(fields - _HOW)}

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the three channels."""
        return NORMALIZATIONS[self.settings['init_normalization']]

    def function(self) -> Callable[[Array], Array]:
        """Images [n, size, size, 3], float32 in [0, 1] or baked uint8, to outputs [n, k]."""
        return functools.partial(self.function_of_variables(), self.variables)

    def function_of_variables(self) -> Callable[[Any, Array], Array]:
        """As `function`, of variables laid out as `variables`, and images."""

        def call(variables: Any, images: Array) -> Float[Array, 'n k']:
            encoder = {name: tree['encoder'] for name, tree in variables.items()}
            head = variables['params'].get('classifier')
            images = images.astype(jnp.float32) / 255 if self.baked else images
            with jax.default_matmul_precision('highest'):  # accelerators would round to bfloat16
                x: Any = self.encoder.apply(encoder, images, train=False)
                if head is not None:
                    x = x @ head['dense']['kernel'] + head['dense']['bias'][None]
            return trained.probabilities(x, self.task) if self.baked and self.task else x

        return call

    def reference(self, images: UInt8[np.ndarray, 'n s s 3']) -> Float[np.ndarray, 'n k']:
        """What the source gives for these images, one after the other."""
        call = jax.jit(self.function_of_variables())
        given = images if self.baked else images.astype(np.float32) / 255
        found = [call(self.variables, given[i : i + 1]) for i in range(len(given))]
        return np.concatenate(found)


def load(workdir: str, *, head: bool, baked: bool) -> Model:
    """The network of a workdir, or of one of its checkpoints.

    Args:
      head: with the classifier.
      baked: see `Model`.

    Raises:
      InputError: there is none, no classifier to go with it, or `result.json` cannot be read.
    """
    source = init_from.load(workdir)
    if source.step is None:
        raise InputError(f'{workdir}: not the workdir of a big_ssl run')
    if head and 'task' not in source.about:
        raise InputError(f'{workdir}: has no classifier; export the encoder, without --head')
    further = (*config_lib.OF_IMAGES, 'dataset.window')
    config = config_lib.of_weights(source.settings, further)
    config.model.dtype = 'float32'
    encoder, task = build.make_encoder(config), trained.task_of(source.about) if head else None
    one = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, train=False), one)
    nested = {name: {'encoder': tree} for name, tree in shapes.items()}
    if task is not None:
        network = ClassifierNetwork(encoder, task.outputs)
        nested = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), one)
    result, not_judged = _judged(workdir, source)
    return Model(
        encoder=encoder,
        variables=source.take_all(nested),
        task=task,
        baked=baked,
        settings=source.settings,
        about=source.about,
        step=source.step,
        result=result,
        not_judged=not_judged,
    )


def _judged(origin: str, source: init_from.Source) -> tuple[dict[str, Any], str]:
    """The result of the run if it judged this step, and else why there is none, as a sentence."""
    judgement = judged_step.of_weights(origin, source.step)
    if not judgement.why_not or 'task' not in source.about:  # pre-training judges nothing
        return judgement.result, ''
    workdir = judged_step.workdir_of(origin)
    if workdir != epath.Path(origin) and judgement.step is not None:
        remedy = f'export {workdir} itself'
    else:
        remedy = f'run the training command again, which judges a step, and export {workdir}'
    log.warning(
        '%s. The export has no figures and no thresholds. To have them, %s; to judge this one: '
        'python -m big_ssl.main --config=configs/shift_evaluate.py --config.init_from=%s '
        '--config.dataset.manifest=FILE.csv',
        judgement.why_not,
        remedy,
        origin,
    )
    return {}, f'None: {judgement.why_not}.'
