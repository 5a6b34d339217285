import pytest

from big_ssl.errors import InputError
from big_ssl.planning import topology
from big_ssl.planning.topology import CHIPS, parse


@pytest.mark.parametrize(
    ('name', 'sides'),
    [  # as Google's documentation of each generation lists them
        ('v2-8', (2, 2)), ('v3-32', (4, 4)), ('v3-256', (8, 16)), ('v3-2048', (32, 32)),
        ('v4-8', (2, 2, 1)), ('v4-32', (2, 2, 4)), ('v4-64', (2, 4, 4)), ('v4-384', (4, 4, 12)),
        ('v4-1536', (8, 8, 12)), ('v4-4096', (8, 16, 16)), ('v5p-1280', (4, 8, 20)),
        ('v5p-6912', (12, 12, 24)), ('v5p-17920', (16, 20, 28)), ('v5e-1', (1, 1)),
        ('v5e-8', (2, 4)), ('v5e-16', (4, 4)), ('v5e-256', (16, 16)), ('v6e-128', (8, 16)),
        ('v5litepod-16', (4, 4)), ('V5E-16', (4, 4)), ('v5e:4x8', (4, 8)),
        ('v5p:4x4x12', (4, 4, 12)),
    ],
)  # fmt: skip
def test_slices_by_the_names_of_the_cloud(name, sides):
    generation, found = parse(name)
    assert found == sides and generation in CHIPS


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('v5e-17', 'v5e has no slice of 17 (chips); near it: v5e-4, v5e-8, v5e-16, v5e-32'),
        ('v3-16', 'v3 has no slice of 16 (cores, two a chip); near it: v3-8, v3-32'),
        ('v5p-9', 'v5p has no slice of 9 (cores, two a chip); near it: v5p-8, v5p-16'),
        ('v5e-512', 'v5e has no slice of 512'),
        ('v5e:4x4x4', 'a slice of v5e has 2 sides'),
        ('v5e:0x4', 'a slice of v5e has 2 sides'),
        ('v7-8', 'not the name of a TPU slice'),
        ('v5-litepod', 'not the name of a TPU slice'),
        ('a100', 'not the name of a TPU slice'),
        ('', 'not the name of a TPU slice'),
        ('locl', 'did you mean local?'),
    ],
)
def test_other_names_are_refused_with_those_that_are_near(name, message):
    with pytest.raises(InputError) as caught:
        parse(name)
    assert str(caught.value).startswith(f'--topology={name}: ') and message in str(caught.value)


def test_without_libtpu_a_line_says_what_to_install(monkeypatch):
    def missing(**_):
        raise RuntimeError('no plugin\nof this name')

    monkeypatch.setattr(topology.topologies, 'get_topology_desc', missing)
    with pytest.raises(InputError, match=r"no plugin of this name .*pip install 'big_ssl\[tpu\]'"):
        topology.open_slice('v5e-16')


@pytest.mark.tpu
@pytest.mark.parametrize(
    ('name', 'devices', 'chips'),
    [('v2-8', 8, 4), ('v3-32', 32, 16), ('v4-64', 32, 32), ('v5e-1', 1, 1), ('v5e-16', 16, 16),
     ('v5e-256', 256, 256), ('v5p-128', 64, 64), ('v6e-8', 8, 8)],
)  # fmt: skip
def test_devices_of_a_slice(name, devices, chips):
    found = topology.open_slice(name)
    assert (len(found.devices), found.chips) == (devices, chips)
    assert {device.platform for device in found.devices} == {'tpu'}
