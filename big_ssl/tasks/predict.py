"""A trained classifier's predictions for images with or without labels, as CSV and Parquet."""

import jax
import numpy as np
import pandas as pd
from etils import epath
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import cases, datasets
from big_ssl.data.labels import Task
from big_ssl.data.manifest import Manifest
from big_ssl.evaluation.cases import aggregate
from big_ssl.files import REPORT
from big_ssl.report import page
from big_ssl.tasks import outputs, pages, provenance, trained
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.distributed import StopRequest


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Predicts every case (every image with aggregate=none) of `splits.evaluate`."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    model = trained.load_classifier(config, mesh, should_stop)
    manifest = datasets.open_table(config)
    rows = manifest.rows(config_lib.names(config.splits.evaluate))
    table = datasets.open_images(config, manifest, rows)
    workdir_lib.begin(workdir, config.to_dict())
    probabilities = model.probabilities(table, rows)
    if jax.process_index() != 0:
        return
    case = cases.case_codes(manifest, rows, by_case=config.aggregate != 'none')
    found = predictions(manifest, rows, case, probabilities, model.task)
    outputs.write_table(workdir, 'predictions', found)
    counts = {} if model.task.multilabel else dict(found['predicted'].value_counts())
    seen = model.seen | {
        **provenance.applied_to(manifest),
        'evaluated/init_from': config.init_from,
        'predicted/cases': len(found),
        'predicted/images': len(rows),
    }
    page.page('Predictions', pages.predicted(seen, counts), workdir / REPORT)
    outputs.write_result(workdir, seen)


def predictions(
    manifest: Manifest, rows: np.ndarray, case: np.ndarray, probabilities: np.ndarray, task: Task
) -> pd.DataFrame:
    """A row for each case: ids, its number of images, a score for each class, further columns.

    With one class a case, `predicted` is that of the highest score. `label` is as in the table.

    Args:
      rows: of the manifest, all images.
      case: [images] number of the case of each image.
      probabilities: [images, k].
    """
    _, scores = aggregate(probabilities, case)
    _, first, images = np.unique(case, return_index=True, return_counts=True)
    ours = outputs.identified(manifest, rows[first]).assign(images=images)
    if (images == 1).all():
        ours.insert(0, 'image_path', manifest.image_path[rows[first]])
    if not task.multilabel:
        ours['predicted'] = np.array(task.classes, object)[scores.argmax(axis=1)]
    return outputs.with_scores(ours, scores, task, manifest.further.iloc[rows].astype(object), case)
