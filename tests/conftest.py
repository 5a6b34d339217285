"""Eight virtual CPU devices for every test; rank promotion must be written out."""

import logging
import os
import sys
from pathlib import Path

os.environ['JAX_PLATFORMS'] = 'cpu'
# LLVM's least effort: the suite compiles far more than it computes.
FLAGS = '--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=1'
os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {FLAGS}'

import jax  # noqa: E402
import pytest  # noqa: E402
from etils import epath  # noqa: E402

from tests import bucket, runs  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')

SLOWEST = ('test_hosts', 'test_resume', 'test_execute', 'test_faults', 'test_local', 'test_door',
           'test_export', 'test_formats', 'test_simclr_names', 'test_apply')  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first, so that none of them is left to one worker at the end."""
    items.sort(key=lambda item: item.path.stem not in SLOWEST)


@pytest.fixture(scope='session')
def compile_cache(tmp_path_factory) -> str:
    """Where started programs find what others compiled, those of other workers of the suite too;
    loaded, it computes the same bits."""
    own = tmp_path_factory.getbasetemp()
    workers = own.parent if 'PYTEST_XDIST_WORKER' in os.environ else own
    return str(workers / 'compiled')


@pytest.fixture(scope='session')
def tiny_manifest(tmp_path_factory) -> str:
    """40 cases of one or two 24-pixel images, two classes, three splits."""
    return runs.tiny_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='session')
def straight(tmp_path_factory, compile_cache, tiny_manifest):
    """Finished runs that nothing disturbed, by config and further flags."""
    made: dict[tuple[str, ...], Path] = {}

    def get(config: str, *more: str) -> Path:
        key = (config, *more)
        if key not in made:
            made[key] = tmp_path_factory.mktemp('straight')
            runs.run(runs.flags(config, made[key], tiny_manifest, *more), compile_cache)
        return made[key]

    return get


@pytest.fixture
def gs(tmp_path, monkeypatch) -> Path:
    """The folder that gs:// is."""
    root = tmp_path / 'gs'
    root.mkdir()
    monkeypatch.setattr(epath.gpath._GPath, '_backend', bucket.backend_of_paths(root))
    return root


@pytest.fixture(autouse=True)
def own_logging():
    """As Python starts with it: a door sets it up, in a fixture of a whole module perhaps."""
    logger = logging.getLogger('big_ssl')
    logger.handlers[:], logger.level, logger.propagate = [], logging.NOTSET, True


@pytest.fixture
def as_a_fresh_process(monkeypatch):
    """In the repository, without the last config file that ml_collections keeps as a module."""
    monkeypatch.chdir(Path(__file__).parent.parent)
    sys.modules.pop('config_config', None)
