"""The memory of devices, and of a process that a control group holds back."""

from types import SimpleNamespace

import jax
import pytest

from big_ssl.train import memory


def total() -> int:
    with open('/proc/meminfo') as file:
        return int(file.readline().split()[1]) * 1024


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('max\n', None), ('9223372036854771712\n', None), ('1073741824\n', 2**30)],
)
def test_cpus_share_what_they_may_use(tmp_path, monkeypatch, text, expected):
    (tmp_path / 'memory.max').write_text(text)
    monkeypatch.setattr(
        memory, '_LIMITS', (str(tmp_path / 'missing'), str(tmp_path / 'memory.max'))
    )
    expected = expected or total()
    assert memory.machine_memory() == pytest.approx(expected, rel=0.01)
    assert memory.device_memory(jax.devices()) == memory.machine_memory() // 8


def test_others_say_what_they_have():
    def device(stats):
        return SimpleNamespace(platform='gpu', memory_stats=lambda: stats)

    assert memory.device_memory([device({'bytes_limit': 5})] * 2) == 5
    assert memory.device_memory([device(None)]) == memory.device_memory([device({})]) == 0
