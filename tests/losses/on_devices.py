"""Losses compiled for several devices, what their programs hold, and projections to compare."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def make_mesh(devices):
    assert len(jax.devices()) >= devices, 'conftest.py asks XLA for 8 CPU devices'
    return jax.make_mesh(
        (devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )


def place(array, mesh, *axes):
    """As in training: `place(z, mesh, 'data')` over the batch, `place(groups, mesh)` replicated."""
    return jax.device_put(array, NamedSharding(mesh, PartitionSpec(*axes)))


def random_views(examples, views, dim, seed=0):
    """Views of an example resemble each other, so that top-1 is neither 0 nor 1."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(examples, 1, dim))
    return (centres + 0.7 * rng.normal(size=(examples, views, dim))).astype(np.float32)


def unit(z):
    """Unit vectors in float64; zero stays zero."""
    z = np.asarray(z, np.float64)
    return z / np.sqrt(np.maximum((z**2).sum(-1, keepdims=True), 1e-12))


def differences(function, z, step=1e-5):
    """The gradient of a function in float64, by central differences."""
    z = np.asarray(z, np.float64)
    gradient = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        shift = np.zeros_like(z)
        shift[index] = step
        gradient[index] = (function(z + shift) - function(z - shift)) / (2 * step)
    return gradient


def collectives(text):
    """(operation, elements of its result) of every collective that the compiled program defines."""
    names = (
        'all-gather|reduce-scatter|all-reduce|all-to-all|collective-permute|collective-broadcast'
    )
    found = re.findall(rf'= (.*?) ({names})(?:-start)?\(', text)
    return sorted((name, sum(map(elements, shapes(result)))) for result, name in found)


def shapes(text):
    return re.findall(r'\b(?:pred|[a-z]+\d+)\[([\d,]*)\]', text)


def elements(shape):
    return int(np.prod([int(size) for size in shape.split(',') if size], dtype=np.int64))
