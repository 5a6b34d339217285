"""How good frozen features are: a linear probe or nearest neighbours, from train, judged as ever.

The probe's penalty is chosen on validation. With no `init_from` the features are those of random
weights: the row that every such table needs.
"""

import functools

import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from big_ssl.data import labels
from big_ssl.errors import InputError
from big_ssl.evaluation import knn, probe
from big_ssl.tasks import judge, provenance, trained
from big_ssl.tasks.labelled import open_data
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.distributed import StopRequest


def judged(config: ConfigDict, workdir: epath.Path, mesh: Mesh, should_stop: StopRequest) -> None:
    """Fits on the labelled training images and writes the result and the report."""
    data = open_data(config)
    val = data.validation
    if config.classifier == 'linear_probe' and val is None:
        raise InputError(
            f'{data.manifest.path}: no row has split {config.splits.val!r}, which picks the '
            "probe's penalty; name another by --config.splits.val"
        )
    encoder = trained.load_encoder(config, mesh, should_stop)
    workdir_lib.begin(workdir, config.to_dict())
    features = functools.partial(encoder.features, data.table)
    if config.labels.uncertain == 'own_class':
        raise InputError('config: labels.uncertain=own_class is for fine-tuning alone')
    rows = data.examples.rows
    known = features(rows), data.examples.by_image['targets'][rows]
    embedded = {split.name: features(split.rows) for split in data.judged}
    of_splits = np.concatenate(list(embedded.values()))
    k = len(data.task.classes)
    if config.classifier == 'knn':
        predict = knn.knn_predict_multilabel if data.task.multilabel else knn.knn_predict
        found = predict(*known, of_splits, k, k=config.monitor.knn_k)
    else:
        assert val is not None
        fit = probe.linear_probe_multilabel if data.task.multilabel else probe.linear_probe
        val_targets = labels.encode(data.manifest, val.rows, data.task)
        found = fit(*known, embedded[val.name], val_targets, of_splits, classes=k)
    found_at = dict(zip(np.concatenate([split.rows for split in data.judged]).tolist(), found))

    def predicted(rows: np.ndarray) -> np.ndarray:
        return np.stack([found_at[row] for row in rows.tolist()])

    scored = [
        judge.score(config, data.manifest, split, data.task, predicted) for split in data.judged
    ]
    thresholds = judge.thresholds_of(scored[0], data.task) if val else None
    seen = provenance.trained_on(config, data.manifest, data.examples.rows) | {
        'evaluated/classifier': config.classifier
    }
    judge.report_evaluation(config, workdir, data.manifest, scored, data.task, thresholds, seen)
