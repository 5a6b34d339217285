"""PyTorch's side of the benchmark computes what big_ssl does: network, loss and optimiser."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import settings, simclr, trace
from big_ssl.losses.ntxent import nt_xent
from big_ssl.models import naming
from big_ssl.models.resnet import torchvision_names
from big_ssl.train.mesh import make_mesh
from big_ssl.train.optimizer import make_optimizer
from tests import peers

torch = peers.torch()
from benchmarks import torch_simclr  # noqa: E402

BATCH, STEPS = 4, 3


@pytest.fixture(scope='module')
def training():
    setting = settings.Setting('toy', BATCH, 1, 1, '', (), '', 8, 8)
    return simclr.training_of(settings.config_of(setting))


@pytest.fixture(scope='module')
def state(training):
    return training.state()


@pytest.fixture(scope='module')
def step(training, state):
    return simclr.ready_step(training).lower(state, simclr.ready_views(training)).compile()


def torch_state(state) -> dict:
    """The variables by the names of `torch_simclr.SimCLR`."""
    found = {}
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    for keys, array in jax.tree_util.tree_leaves_with_path(variables):
        path = tuple(key.key for key in keys)
        if path[1] == 'encoder':
            name = f'encoder.{torchvision_names.name(path)}'
        else:
            of_tensor = {'kernel': 'weight', 'scale': 'weight', 'bias': 'bias',
                         'mean': 'running_mean', 'var': 'running_var'}  # fmt: skip
            name = f'projection.{path[2]}.{of_tensor[path[3]]}'
        found[name] = torch.tensor(naming.to_torch(np.array(array)))
    return found


def test_three_steps_have_the_same_losses(training, state, step):
    """Losses of later steps depend on gradients, statistics and updates."""
    network = settings.NETWORKS['toy']
    rival = torch_simclr.SimCLR(network.depth, network.width, network.stem, 0.1)
    missing, unexpected = rival.load_state_dict(torch_state(state), strict=False)
    assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
    rate = float(training.schedule(0))
    optimizer = torch_simclr.Lars(list(rival.parameters()), rate)
    batch = simclr.ready_views(training)
    views = np.array(batch.each['views']).reshape(2 * BATCH, 32, 32, 3)
    images = torch.tensor(views.transpose(0, 3, 1, 2)).to(memory_format=torch.channels_last)
    ours, theirs, state = [], [], jax.tree.map(jnp.copy, state)
    for _ in range(STEPS):
        state, metrics = step(state, batch)
        ours.append(float(metrics['loss']))
        loss = rival(images)
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    assert ours[0] == pytest.approx(theirs[0], abs=1e-4)
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert ours[0] - ours[-1] > 0.05  # it learns: the losses are not equal for being constant


def test_dense_loss_is_the_blockwise_one():
    z = np.random.default_rng(0).normal(size=(8, 2, 16)).astype(np.float32)
    ours, _ = nt_xent(jnp.array(z), jnp.arange(8), 0.1, mesh=make_mesh(jax.devices()[:1]))
    theirs = torch_simclr.nt_xent(torch.tensor(z.reshape(16, 16)), 0.1)
    assert float(ours) == pytest.approx(theirs.item(), rel=1e-5)


def test_lars_is_that_of_training():
    rng = np.random.default_rng(0)
    shapes = {'kernel': (3, 3, 2, 4), 'bias': (4,), 'scale': (4,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    params = {'layer': params, 'zero': {'kernel': np.zeros((4, 2), np.float32)}}
    kept = {'momentum': 0.9, 'weight_decay': 0.1}
    optimizer = make_optimizer('lars', optax.constant_schedule(0.5), **kept)
    opt_state = optimizer.init(params)
    leaves = [torch.nn.Parameter(torch.tensor(x)) for x in jax.tree.leaves(params)]
    rival = torch_simclr.Lars(leaves, 0.5, **kept)
    for _ in range(4):
        grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        for leaf, gradient in zip(leaves, jax.tree.leaves(grads)):
            leaf.grad = torch.tensor(gradient)
        rival.step()
        for leaf, ours in zip(leaves, jax.tree.leaves(params)):
            np.testing.assert_allclose(leaf.detach().numpy(), ours, rtol=2e-5, atol=1e-6)
    assert all(leaf.grad is None for leaf in leaves)


def test_every_kind_of_work_is_found_in_the_step(step):
    kinds = set(trace.kinds_of(step.as_text()).values())
    assert {'convolution', 'normalisation', 'loss', 'optimiser', 'projection'} <= kinds


def test_a_model_that_does_not_compile_runs_eagerly(monkeypatch, capsys):
    def refuse(*_, **__):
        raise ValueError('cannot\ntwice')

    monkeypatch.setattr(torch, 'compile', refuse)
    monkeypatch.setattr(torch_simclr, 'SimCLR', lambda *_: Small())
    found = torch_simclr.measured(
        depth=18, width=0.25, stem='small_images', image_size=8, batch=2, temperature=0.1,
        rate=0.1, compiler='inductor', seconds=0.01, repeats=2,
    )  # fmt: skip
    assert found['compiled_by'].startswith('eager') and len(found['step_seconds']) == 2
    assert 'cannot' in capsys.readouterr().out


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(192, 8)

    def forward(self, views):
        return torch_simclr.nt_xent(self.dense(views.flatten(1)), 0.1)
