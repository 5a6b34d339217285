"""Encoder and heads in one module, for each kind of training.

The parameters' first level is `encoder` and the heads (`projection`, `classifier`), so that an
encoder moves from one network to another by its name.
"""

import flax.linen as nn
from jaxtyping import Array, Float

from big_ssl.models.heads import Classifier


class ContrastiveNetwork(nn.Module):
    """An encoder below a projection head, for pre-training."""

    encoder: nn.Module
    projection: nn.Module

    def __call__(
        self, images: Float[Array, 'n h w c'], train: bool
    ) -> dict[str, Float[Array, 'n _']]:
        """Returns `features` [n, features] and `z` [n, size], not normalised; both float32."""
        features = self.features(images, train)
        return {'features': features, 'z': self.projection(features, train)}

    def features(self, images: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n features']:
        return self.encoder(images, train)


class PredictingNetwork(nn.Module):
    """An encoder below a projection, and a prediction of it, for BYOL."""

    encoder: nn.Module
    projection: nn.Module
    prediction: nn.Module

    def __call__(
        self, images: Float[Array, 'n h w c'], train: bool
    ) -> dict[str, Float[Array, 'n _']]:
        """Returns `features` [n, features], `z` and `prediction` [n, size]; all float32."""
        features = self.encoder(images, train)
        z = self.projection(features, train)
        return {'features': features, 'z': z, 'prediction': self.prediction(z, train)}


class ClassifierNetwork(nn.Module):
    """An encoder below a classifier, for fine-tuning and prediction."""

    encoder: nn.Module
    classes: int

    def setup(self):
        self.classifier = Classifier(self.classes)

    def __call__(
        self, images: Float[Array, 'n h w c'], train: bool
    ) -> dict[str, Float[Array, 'n _']]:
        """Returns `features` [n, features] and `logits` [n, classes]; both float32."""
        features = self.features(images, train)
        return {'features': features, 'logits': self.classify(features)}

    def features(self, images: Float[Array, 'n h w c'], train: bool) -> Float[Array, 'n features']:
        return self.encoder(images, train)

    def classify(self, features: Float[Array, 'n features']) -> Float[Array, 'n classes']:
        """Logits of features, of one image or of a whole case."""
        return self.classifier(features)
