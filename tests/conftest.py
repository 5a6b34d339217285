"""Eight virtual CPU devices for every test; rank promotion must be written out."""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
DEVICES = '--xla_force_host_platform_device_count=8'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {DEVICES}'

import jax  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
