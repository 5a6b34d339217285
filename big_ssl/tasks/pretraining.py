"""What pre-training reads, and how it is looked at: by its pairs, for collapse, and by neighbours.

The report is on the workdir's `metrics.jsonl`, in which the monitor's figures are.
"""

import dataclasses
import logging
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import datasets, feed, training
from big_ssl.data.batches import Source
from big_ssl.data.images import ImageTable
from big_ssl.data.manifest import Manifest
from big_ssl.data.training import Examples
from big_ssl.files import PAIRS
from big_ssl.methods import Method
from big_ssl.report import pictures
from big_ssl.tasks import monitor, outputs, provenance
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.checkpoint import Checkpoints
from big_ssl.train.compilation import whole
from big_ssl.train.state import TrainState
from big_ssl.train.writers import MetricsWriter

log = logging.getLogger(__name__)

PICTURED = 8  # examples in pairs.png


@dataclasses.dataclass(frozen=True)
class Data:
    """The training images, and the labelled ones that a monitor looks at, if there are any."""

    manifest: Manifest
    table: ImageTable
    examples: Examples
    bank: monitor.Labelled | None
    query: monitor.Labelled | None


def open_data(config: ConfigDict) -> Data:
    """All rows of `splits.train`, with their labels where the method is given some."""
    manifest = datasets.open_manifest(config)
    examples = training.unlabelled(config, manifest, config_lib.method_of(config).LABELS)
    bank, query = monitor.bank_and_query(config, manifest)
    table = datasets.open_images(config, manifest, examples.rows, *([query.rows] if query else []))
    return Data(manifest, table, examples, bank, query)


@dataclasses.dataclass
class Observer:
    """Looks at a run of pre-training.

    Attributes:
      first: the batch of step 0, for alignment and uniformity.
    """

    method: Method
    data: Data
    first: Source
    workdir: epath.Path
    writer: MetricsWriter
    should_stop: Any
    score: ClassVar = None  # all checkpoints are as good

    def __post_init__(self) -> None:
        data = self.data
        self.monitor = monitor.make_monitor(
            self.method, data.table, self.first, data.bank, data.query
        )

    def begin(self) -> None:
        """`pairs.png`, in TensorBoard too: the first views exactly as the network sees them."""

        @whole(self.method.mesh)
        def first_views(batch: Source) -> jax.Array:
            step = jnp.zeros((), jnp.int32)
            return feed.augmented(self.method.config, batch.drawn(step), step)[:PICTURED]

        seen = np.rint(mesh_lib.fetch(first_views(self.first)) * 255).astype(np.uint8)
        manifest, rows = self.data.manifest, self.data.examples.sampler.batch(0).images[:, 0]
        captions = [
            manifest.case_id[row] or epath.Path(manifest.image_path[row]).name
            for row in rows[:PICTURED]
        ]
        if jax.process_index() == 0:
            picture = pictures.pairs(seen, captions)
            workdir_lib.write(self.workdir / PAIRS, picture)
            self.writer.images(0, {'pairs': picture})

    def end(self, state: TrainState, about: dict[str, Any], checkpoints: Checkpoints) -> None:
        self.writer.flush()  # the report reads it
        outputs.write_pretraining(
            self.workdir, self.method, provenance.at_step(about, int(state.step))
        )
