"""SimCLR in PyTorch, as its users write it: the network, the loss and the optimiser of big_ssl.

Channels last, bfloat16 by autocast, `torch.compile`; the projection and the loss in float32, as in
big_ssl.
"""

import time
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from benchmarks.exhausted import does_not_fit
from benchmarks.timing import timed
from big_ssl.models.resnet.torch_network import Network

EAGER = 'eager, torch.compile failed'


def sees_a_gpu() -> bool:
    """Whether `measured` would use one."""
    return torch.cuda.is_available()


class Projection(nn.Module):
    """Two dense layers with batch normalisation; the last one has a scale, but no shift."""

    def __init__(self, features: int, size: int = 128) -> None:
        super().__init__()
        self.dense1 = nn.Linear(features, features, bias=False)
        self.bn1 = nn.BatchNorm1d(features)
        self.dense2 = nn.Linear(features, size, bias=False)
        self.bn2 = nn.BatchNorm1d(size)
        self.bn2.register_parameter('bias', None)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.dense2(functional.relu(self.bn1(self.dense1(features)))))


class SimCLR(nn.Module):
    """Views, float [2 b, 3, h, w], both views of an example one after the other, to the loss."""

    def __init__(self, depth: int, width: float, stem: str, temperature: float) -> None:
        super().__init__()
        self.encoder = Network(0, depth, width, stem, 'torch')
        self.projection = Projection(round(64 * width) * 8 * (4 if depth >= 50 else 1))
        self.temperature = temperature

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        with torch.autocast(views.device.type, torch.bfloat16, enabled=views.is_cuda):
            features = self.encoder(views)
        return nt_xent(self.projection(features.float()), self.temperature)


def nt_xent(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """The contrastive loss by one matrix of all similarities [2 b, 2 b]."""
    z = functional.normalize(z, dim=1)
    similarity = z @ z.T / temperature
    similarity = similarity.masked_fill(
        torch.eye(len(z), dtype=torch.bool, device=z.device), float('-inf')
    )
    partner = torch.arange(len(z), device=z.device) ^ 1
    return functional.cross_entropy(similarity, partner)


class Lars:
    """`train.optimizer`'s LARS on lists of tensors: matrices and kernels are decayed and adapted.

    Args:
      parameters: changed in place.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        rate: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
    ) -> None:
        self._rate, self._momentum = rate, momentum
        self._decay, self._trust = weight_decay, trust
        self._groups = [
            (adapted, [p for p in parameters if (p.ndim > 1) == adapted])
            for adapted in (True, False)
        ]
        self._velocities = [[torch.zeros_like(p) for p in group] for _, group in self._groups]

    @torch.no_grad()
    def step(self) -> None:
        """Takes the gradients of the parameters, and leaves none."""
        for (adapted, parameters), velocities in zip(self._groups, self._velocities):
            gradients = [p.grad for p in parameters]
            if adapted:
                gradients = torch._foreach_add(gradients, parameters, alpha=self._decay)
                torch._foreach_mul_(gradients, self._ratios(parameters, gradients))
            torch._foreach_mul_(velocities, self._momentum)
            torch._foreach_add_(velocities, gradients, alpha=self._rate)
            torch._foreach_sub_(parameters, velocities)
            for parameter in parameters:
                parameter.grad = None

    def _ratios(
        self, parameters: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        weights = torch.stack(torch._foreach_norm(parameters))
        changes = torch.stack(torch._foreach_norm(gradients))
        ratios = self._trust * weights / changes
        return list(torch.where((weights > 0) & (changes > 0), ratios, 1.0).unbind())


def measured(
    *,
    depth: int,
    width: float,
    stem: str,
    image_size: int,
    batch: int,
    temperature: float,
    rate: float,
    compiler: str,
    seconds: float,
    repeats: int,
) -> dict[str, object]:
    """Step times of loss, gradient and update on views that lie ready; memory on a GPU."""
    device = torch.device('cuda' if sees_a_gpu() else 'cpu')
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision('high')  # float32 products by TF32, XLA's default too
    torch.manual_seed(0)
    model = SimCLR(depth, width, stem, temperature).to(device, memory_format=torch.channels_last)
    optimizer = Lars(list(model.parameters()), rate)
    views = torch.rand(2 * batch, 3, image_size, image_size, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    losses = [torch.zeros((), device=device)]

    def run(count: int, forward: nn.Module) -> None:
        for _ in range(count):
            loss = forward(views)
            loss.backward()
            optimizer.step()
            losses[0] = loss.detach()
        if device.type == 'cuda':
            torch.cuda.synchronize()

    start = time.perf_counter()
    forward, how = _compiled(model, compiler, lambda forward: run(1, forward))
    compiling = time.perf_counter() - start
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    samples = timed(lambda count: run(count, forward), seconds, repeats)
    return {
        'step_seconds': samples,
        'compile_seconds': compiling,
        'compiled_by': how,
        'loss': losses[0].item(),
        'peak_bytes': torch.cuda.max_memory_allocated() if device.type == 'cuda' else None,
        'device': torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu',
        'versions': {
            'torch': torch.__version__,
            'torch_cuda': torch.version.cuda,
            'torch_cudnn': torch.backends.cudnn.version() if device.type == 'cuda' else None,
        },
    }


def _compiled(model: SimCLR, compiler: str, once) -> tuple[nn.Module, str]:
    """The compiled model after its first step; the model itself where compiling fails."""
    try:
        compiled = torch.compile(model, backend=compiler)
        once(compiled)
        return compiled, compiler
    except Exception as error:
        if does_not_fit(error):
            raise
        print(f'torch.compile failed, PyTorch runs eagerly: {str(error).splitlines()[:1]}')
    # Out of `except`, whose traceback would hold the failed step's activations.
    model.zero_grad()
    once(model)
    return model, EAGER
