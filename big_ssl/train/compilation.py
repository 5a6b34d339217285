"""Starting soon: what was compiled before is kept, and a step compiles while data are opened."""

import concurrent.futures
import functools
import logging
import platform
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh

from big_ssl.errors import InputError
from big_ssl.files import cache_folder
from big_ssl.train.mesh import replicated

log = logging.getLogger(__name__)

T = TypeVar('T')
_FOR_CPUS = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'}


def keep_compiled() -> None:
    """Programs of later runs are loaded from the cache; JAX_COMPILATION_CACHE_DIR names another.

    Each kind of processor has a folder of its own: what is compiled for one may not run on another
    that shares the home folder.
    """
    if not jax.config.values['jax_compilation_cache_dir']:
        folder = cache_folder() / 'compiled' / f'{platform.machine()}-{_processor():08x}'
        jax.config.update('jax_compilation_cache_dir', str(folder))


def _processor() -> int:
    """A checksum of what the processor can do."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        features = next(line for line in lines if line.startswith(('flags', 'Features')))
        return zlib.crc32(features.encode())
    except (OSError, StopIteration):
        return zlib.crc32(platform.processor().encode())


def whole(mesh: Mesh) -> Callable[[Callable[..., Any]], Any]:
    """`jax.jit` for these devices, with results that are whole on each of them."""
    return functools.partial(
        jax.jit, out_shardings=replicated(mesh), compiler_options=options(mesh)
    )


def options(mesh: Mesh) -> dict[str, str]:
    """Compiler options (of `jax.jit`) of programs that convolve on these devices.

    On a CPU they leave only sums to YNNPACK, whose convolutions are slower than XLA's own, and on
    one core alone where there are 64 channels. A jaxlib without such an option goes its own way.
    """
    return _accepted() if mesh.devices.flat[0].platform == 'cpu' else {}


@functools.cache
def _accepted() -> dict[str, str]:
    try:
        jax.jit(lambda: 0, compiler_options=_FOR_CPUS).lower().compile()
    except jax.errors.JaxRuntimeError as error:
        log.info('slower convolutions on a CPU: %s', error)
        return {}
    return _FOR_CPUS


def in_background(function: Callable[[], T]) -> Callable[[], T]:
    """Begins something in a thread; what it gives, or raises, is had by calling the result."""
    executor = concurrent.futures.ThreadPoolExecutor(1)
    future = executor.submit(function)
    executor.shutdown(wait=False)
    return future.result


def ahead(step: Any, *like: Any) -> Callable[..., Any]:
    """A jitted function that compiles in a thread from now on; its first call waits for that.

    A call raises InputError where a device has too little memory for it.

    Args:
      step: of `jax.jit`.
      like: arguments with the shapes, dtypes and shardings of those to come.
    """
    specs = jax.tree.map(_spec, like)
    compiled = in_background(lambda: step.lower(*specs).compile())

    @functools.wraps(step)
    def call(*arguments: Any) -> Any:
        try:
            return compiled()(*arguments)
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            raise InputError(_too_large(error)) from None

    return call


def _too_large(error: Exception) -> str:
    reason = ' '.join(str(error).split())
    return (
        'config: a training step needs more memory than a device has; lower --config.batch_size, '
        'raise --config.chunks or see --config.compute; python -m big_ssl.fit says what fits: '
        f'{reason[:300]}{"…" if len(reason) > 300 else ""}'
    )


def _spec(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
