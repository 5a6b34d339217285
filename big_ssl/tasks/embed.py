"""A trained encoder's features of images, as CSV and Parquet: one row an image."""

import jax
import pandas as pd
from etils import epath
from ml_collections import ConfigDict

from big_ssl import config as config_lib
from big_ssl.data import datasets
from big_ssl.evaluation import embedding_map
from big_ssl.files import REPORT
from big_ssl.report import page
from big_ssl.tasks import outputs, pages, provenance, trained
from big_ssl.train import mesh as mesh_lib
from big_ssl.train import workdir as workdir_lib
from big_ssl.train.distributed import StopRequest


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Embeds every image of `splits.evaluate`; `embeddings.csv`, `.parquet`, and a map of them."""
    mesh, should_stop = mesh_lib.make_mesh(), StopRequest()
    encoder = trained.load_encoder(config, mesh, should_stop)
    manifest = datasets.open_manifest(config)
    rows = manifest.rows(config_lib.names(config.splits.evaluate))
    table = datasets.open_images(config, manifest, rows)
    workdir_lib.begin(workdir, config.to_dict())
    features = encoder.features(table, rows)
    if jax.process_index() != 0:
        return
    ids = outputs.identified(manifest, rows)
    ids.insert(0, 'image_path', manifest.image_path[rows])
    names = [f'feature_{i}' for i in range(features.shape[1])]
    embedded = pd.DataFrame(features, columns=names)
    outputs.write_table(workdir, 'embeddings', pd.concat([ids, embedded], axis=1))
    seen = encoder.seen | {
        **provenance.applied_to(manifest),
        'embedded/images': len(rows),
        'embedded/features': features.shape[1],
    }
    points = pd.DataFrame(embedding_map.pca(features), columns=['x', 'y'])
    labels = manifest.label[rows]
    points['class'] = pd.Series(labels, dtype=object).where(labels != '', None)
    page.page('Embeddings', pages.embedded(seen, points), workdir / REPORT)
    outputs.write_result(workdir, seen)
