"""The images of a table, and the bare functions of `big_ssl.data` that make views of them."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from big_ssl import config as config_lib
from big_ssl.augment.crops import Crop
from big_ssl.data import datasets, pipeline, views
from big_ssl.data.images import ImageTable, encoded
from big_ssl.data.sampler import Sampler
from big_ssl.data.training import make_units

SIZE = 224  # of a view, in pixels
CROP = Crop(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))
Encoded = Mapping[int, bytes]  # by row of the manifest


@dataclasses.dataclass(frozen=True)
class Images:
    """The images of a table's split `train`, and the order that training sees them in."""

    table: ImageTable
    rows: np.ndarray
    sampler: Sampler

    def plan(self, step: int) -> pipeline.Plan:
        """Images, boxes and JPEG ratios of a batch, as the pipeline decides them."""
        batch = self.sampler.batch(step)
        return pipeline.planned(self.table, self.sampler, batch, SIZE, CROP)

    def encoded(self) -> Encoded:
        """All of them."""
        return dict(zip(self.rows.tolist(), encoded(self.table, self.rows)))


def open_images(
    pairing: str, batch: int, *, manifest: os.PathLike | None = None, records: str | None = None
) -> Images:
    """As a run opens them, from a table or a record set.

    Args:
      pairing: of the config: augment (SimCLR) or case (MICLe).
      batch: examples.

    Raises:
      InputError: as a run.
    """
    config = config_lib.defaults()
    config.pairing = pairing
    if records:
        config.dataset.name, config.dataset.data_dir = 'records', records
    else:
        config.dataset.manifest = str(manifest)
    config = config_lib.settle(config)
    opened = datasets.open_manifest(config)
    rows = opened.rows(('train',))
    units = make_units(config, opened, rows)
    sampler = Sampler(units, seed=0, batch_size=batch, views=2)
    return Images(datasets.open_images(config, opened, rows), rows, sampler)


def decode(images: Images, data: Encoded, row: int, ratio: int = 1) -> np.ndarray:
    """One image by OpenCV."""
    kind = int(images.table.formats[row])
    return views.decode(data[row], kind, images.table.channels, ratio=ratio)


def crop_views(images: Images, data: Encoded, plan: pipeline.Plan) -> int:
    """Makes all views of a batch, one after the other; returns the number of examples."""
    for rows, ratios, boxes in zip(plan.images.tolist(), plan.ratio.tolist(), plan.box):
        out = np.empty((len(rows), SIZE, SIZE, images.table.channels), np.uint8)
        pixels: dict[int, np.ndarray] = {}
        for view, (row, ratio) in enumerate(zip(rows, ratios)):
            if row not in pixels:
                pixels[row] = decode(images, data, row, ratio)
            views.crop(pixels[row], boxes[view], int(images.table.orientations[row]), out[view])
    return len(plan.images)
