"""A run of training: any method, from a config to a result.

What is read and how it is looked at differs between pre-training (`pretraining.py`) and training a
classifier (`finetuning.py`); everything else is here.
"""

import contextlib
from types import ModuleType
from typing import Protocol

from etils import epath
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl import methods
from big_ssl.data import feed
from big_ssl.data.images import ImageTable
from big_ssl.data.manifest import Manifest
from big_ssl.data.training import Examples
from big_ssl.files import INIT_FROM, PARAMETERS
from big_ssl.run_keys import FINETUNING, PRETRAINING
from big_ssl.tasks import build, finetuning, pretraining, provenance
from big_ssl.train import loop
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.compilation import ahead, in_background
from big_ssl.train.distributed import StopRequest
from big_ssl.train.writers import MetricsWriter


class Data(Protocol):
    """What a run reads: of `open_data`, of either kind."""

    manifest: Manifest
    table: ImageTable
    examples: Examples


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Trains, resuming where the workdir left off, and writes the result and the report."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    module = methods.load(config.method.name)
    kind = _kind(module)
    data: Data = kind.open_data(config)
    sampler = data.examples.sampler
    batches = feed.make_feed(config, data.table, sampler, mesh, by_image=data.examples.by_image)
    plan = build.make_plan(config, sampler.epoch)
    schedule = build.make_schedule(config, plan, sampler.epoch)
    optimizer = build.make_optimizer(config, schedule)
    encoder = build.make_encoder(config)
    method: methods.Method = module.make(config, encoder, mesh, plan.total, data.examples.task)
    checkpoints = Checkpoints(workdir, keep=config.keep_checkpoints)
    seen = provenance.trained_on(config, data.manifest, data.examples.rows, checkpoints)
    if checkpoints.latest() is None:
        network = config_lib.backbone_of(config).title(config.model)
        seen |= {'trained_on/method': method.title, 'trained_on/network': network}
        seen |= method.trained_on()
    about = {
        'config': config.to_dict(),
        'data': data.manifest.fingerprint(),
        'trained_on': seen,
        **method.about(),
    }
    first_batch = in_background(lambda: next(batches(range(1))))
    state, loaded = build.start(method, optimizer, checkpoints, about)
    build.log_size(state, plan, images=len(data.examples.rows), epoch=sampler.epoch)
    files = {INIT_FROM: loaded, PARAMETERS: build.parameter_table(state)}
    step = ahead(build.make_step(method, optimizer, schedule), state, batches.like)
    first = first_batch()  # what is wrong with it is said before anything is written
    workdir_lib.begin(workdir, config.to_dict(), files)
    with contextlib.closing(MetricsWriter(workdir, int(state.step), config.to_dict())) as writer:
        observer = kind.Observer(method, data, first, workdir, writer, should_stop)
        if int(state.step) == 0:
            observer.begin()
        state = loop.fit(
            state,
            step,
            batches,
            plan,
            checkpoints=checkpoints,
            about=about,
            writer=writer,
            monitor=observer.monitor,
            score=observer.score,
            should_stop=should_stop,
            what=method.title,
        )
        observer.end(state, about, checkpoints)


def _kind(module: ModuleType) -> ModuleType:
    return {PRETRAINING: pretraining, FINETUNING: finetuning}[module.TASK]
