"""Device memory, of devices that say how much they use and of those that do not."""

import types

from big_ssl.train import profile


def test_the_peak_in_gib(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {'peak_bytes_in_use': 3 * 2**29})
    monkeypatch.setattr(profile.jax, 'local_devices', lambda: [device])
    assert profile.device_memory() == {'device_memory_gib': 1.5}


def test_nothing_where_it_is_not_known(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: None)
    monkeypatch.setattr(profile.jax, 'local_devices', lambda: [device])
    assert profile.device_memory() == {}
