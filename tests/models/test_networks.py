import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from big_ssl.models.heads import ProjectionHead
from big_ssl.models.networks import ClassifierNetwork, ContrastiveNetwork
from big_ssl.models.resnet import ResNet

IMAGES = np.random.default_rng(0).uniform(size=(4, 6, 6, 3)).astype(np.float32)


class MeanColour(nn.Module):
    """An encoder whose features can be written down: the mean pixel, normalised, times a kernel."""

    @nn.compact
    def __call__(self, images, train):
        x = nn.BatchNorm(use_running_average=not train)(images.mean(axis=(1, 2)))
        return nn.Dense(7, use_bias=False, name='dense')(x)


def start(network):
    variables = network.init(jax.random.key(0), IMAGES, True)
    kernel = np.asarray(variables['params']['encoder']['dense']['kernel'])
    return variables, IMAGES.astype(np.float64).mean(axis=(1, 2)) / np.sqrt(1 + 1e-5) @ kernel


def test_contrastive_network():
    network = ContrastiveNetwork(MeanColour(), ProjectionHead(layers=1, size=8))
    variables, features = start(network)
    assert set(variables['params']) == {'encoder', 'projection'}
    kernel = np.asarray(variables['params']['projection']['dense1']['kernel'])
    out = network.apply(variables, IMAGES, False)
    np.testing.assert_allclose(out['features'], features, atol=1e-6)
    np.testing.assert_allclose(out['z'], features @ kernel / np.sqrt(1 + 1e-5), atol=1e-6)
    alone = network.apply(variables, IMAGES, False, method='features')
    np.testing.assert_allclose(alone, features, atol=1e-6)


def test_classifier_network():
    network = ClassifierNetwork(MeanColour(), classes=5)
    variables, features = start(network)
    assert set(variables['params']) == {'encoder', 'classifier'}
    kernel = np.asarray(variables['params']['classifier']['dense']['kernel'])
    bias = np.arange(5, dtype=np.float32)
    variables['params']['classifier']['dense']['bias'] = bias
    out = network.apply(variables, IMAGES, False)
    np.testing.assert_allclose(out['features'], features, atol=1e-6)
    np.testing.assert_allclose(out['logits'], features @ kernel + bias, atol=1e-6)
    alone = network.apply(variables, IMAGES, False, method='features')
    np.testing.assert_allclose(alone, features, atol=1e-6)

    bags = features.reshape(2, 2, 7).mean(axis=1)
    logits = network.apply(variables, jnp.asarray(bags, jnp.float32), method='classify')
    np.testing.assert_allclose(logits, bags @ kernel + bias, atol=1e-6)


def test_training_mode_reaches_encoder_and_projection():
    network = ContrastiveNetwork(MeanColour(), ProjectionHead(layers=1))
    variables, _ = start(network)
    _, updated = network.apply(variables, IMAGES, True, mutable=['batch_stats'])
    mean = 0.01 * IMAGES.mean(axis=(0, 1, 2))  # MeanColour keeps Flax's decay of 0.99
    np.testing.assert_allclose(
        updated['batch_stats']['encoder']['BatchNorm_0']['mean'], mean, rtol=1e-5
    )
    assert np.any(updated['batch_stats']['projection']['bn1']['mean'])


def test_both_networks_share_the_encoder():
    encoder, images = ResNet(50, 0.25), jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    networks = ContrastiveNetwork(encoder, ProjectionHead()), ClassifierNetwork(encoder, classes=5)
    expected = jax.eval_shape(lambda x: encoder.init(jax.random.key(0), x, False), images)
    for network in networks:
        tree = jax.eval_shape(lambda x, n=network: n.init(jax.random.key(0), x, False), images)
        for collection in ('params', 'batch_stats'):
            assert tree[collection]['encoder'] == expected[collection]
