import pytest

from benchmarks import ceilings, settings, table, timing
from benchmarks.settings import NETWORKS


def test_shares_of_ceilings():
    most = {'flops_per_second': 100.0, 'bytes_per_second': 10.0}
    found = ceilings.shares(flops=50, moved=20, seconds=4, ceilings=most)
    assert found == {'flops_share': 0.125, 'bytes_share': 0.5, 'least_seconds': 2.0}


def test_rates_are_those_of_the_best_repeat(monkeypatch):
    def timed(run, seconds, repeats):
        run(2)
        return [4.0, 2.0, 8.0]

    monkeypatch.setattr(ceilings, 'timed', timed)
    found = ceilings.measured(side=16, size=4096, seconds=1, repeats=3)
    assert found == {'flops_per_second': 16**3, 'bytes_per_second': 4096}


def test_seconds_a_step(monkeypatch):
    """A clock that a step moves by a quarter of a second."""
    now, counts = [0.0], []
    monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])

    def run(count: int) -> None:
        counts.append(count)
        now[0] += 0.25 * count

    assert timing.timed(run, seconds=3, repeats=3) == [0.25, 0.25, 0.25]
    assert counts == [2, 2, 4, 4, 4]  # warm-up, a guess, then a second each


def test_figures_of_a_network():
    most = {'flops_per_second': 1000.0, 'bytes_per_second': 100.0}
    parts = {
        'network': {
            'step_seconds': [2.0, 1.0, 4.0], 'peak_bytes': 2**31, 'flops': 500, 'bytes': 50,
        },
        'rival': {'step_seconds': [4.0], 'peak_bytes': None, 'compiled_by': 'inductor'},
        'step': {
            'step_seconds': [2.5], 'peak_bytes': None, 'flops': 500, 'bytes': None,
            'augmentation_seconds': [0.5, 0.1, 0.2], 'loss_seconds': [0.25],
            'optimiser_seconds': [0.5],
        },
        'trace': {'kernel_seconds': {'convolution': 1.5, 'loss': 0.5}, 'traced_step_seconds': 2.5},
        'images': {
            'step_seconds': [2.0, 2.0], 'input_wait_seconds': [0.03, 0.05], 'peak_bytes': None,
            'flops': 1, 'bytes': 1,
        },
    }  # fmt: skip
    parts = {name: result | {'batch': 8} for name, result in parts.items()}
    found = table.figures(parts, most)
    assert found['network']['images_per_second'] == {'median': 4, 'low': 2, 'high': 8}
    assert found['network']['peak_gib'] == 2
    assert found['network']['flops_share'] == found['network']['bytes_share'] == 0.25
    assert found['times_pytorch'] == 2
    assert found['alone'] == {'augmentation': 0.08, 'loss': 0.1, 'optimiser': 0.2}
    assert found['step_without_network'] == pytest.approx(0.2)
    assert found['traced'] == {'convolution': 0.75, 'loss': 0.25}
    assert found['device_busy'] == 0.8
    assert found['input_wait'] == pytest.approx(0.02)


@pytest.mark.parametrize(
    'network, activations, parameters',
    [('r50', 11.11e6, 23.45e6), ('r152x2', 2 * 22.56e6, 4 * 57.99e6)],
)
def test_size_of_a_network(network, activations, parameters):
    """11.1 and 22.6 million activations: Radosavovic et al. 2020, table 4, of ResNet-50 and 152."""
    found = settings.sizes(NETWORKS[network])
    assert found[0] == pytest.approx(activations, rel=0.01)
    assert found[1] == pytest.approx(parameters, rel=0.01)


def test_first_try_is_the_largest_that_might_fit():
    network = NETWORKS['r50']
    activations, parameters = settings.sizes(network)
    exactly = 64 * 8 * activations + 12 * parameters
    assert settings.first_try(network, exactly) == 64
    assert settings.first_try(network, exactly - 1) == 32
