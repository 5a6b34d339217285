import jax
import numpy as np
import optax

from big_ssl.models import resnet
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.train.mesh import make_mesh
from big_ssl.train.state import initial_state


def test_fresh_parameters_depend_on_the_seed_alone_and_are_everywhere(monkeypatch):
    monkeypatch.setitem(resnet.STAGE_SIZES, 18, (1,))
    network = ClassifierNetwork(resnet.ResNet(depth=18, width=0.25), 3)

    def state(seed: int, image_size: int):
        return initial_state(
            network, optax.adam(0.1), image_size=image_size, seed=seed, mesh=make_mesh()
        )

    one, same, other = state(1, 8), state(1, 16), state(2, 8)
    assert int(one.step) == 0 and one.step.dtype == np.int32
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernels = [s.params['encoder']['conv_stem']['kernel'] for s in (one, other)]
    assert (np.asarray(kernels[0]) != np.asarray(kernels[1])).mean() > 0.99
    for leaf in jax.tree.leaves(one):
        assert leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 8
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves((one.params, one.batch_stats)))
