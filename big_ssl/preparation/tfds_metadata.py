"""What TensorFlow Datasets needs beside the shards to open them: `tfds.builder_from_directory`."""

import os
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from big_ssl.data.image_files import PNG16
from big_ssl.preparation.shards import DATASET, UNSPLIT

_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def write(folder: epath.Path, index: pd.DataFrame) -> None:
    """Writes `features.json` and `dataset_info.json`.

    Args:
      folder: of the shards.
      index: a row an image: `shard`, `record`, `bytes`, `split`, `format`, `grey`.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import naming

    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name=DATASET, filetype_suffix='array_record'
    )
    splits = []
    for split, part in index.groupby('split', sort=True):
        lengths = 1 + part.groupby('shard', sort=True)['record'].max()
        splits.append(
            tfds.core.SplitInfo(
                name=split or UNSPLIT,
                shard_lengths=lengths.tolist(),
                num_bytes=int(part['bytes'].sum()),
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(index, tfds),
        split_infos=splits,
        filename_template=_TEMPLATE,
        check_data=False,
    )


def _features(index: pd.DataFrame, tfds: Any) -> Any:
    """Of a record, which is a case; TFDS decodes 16 bits with OpenCV only: they stay encoded."""
    text = tfds.features.Text()
    if (index['format'] == PNG16).any():
        image = tfds.features.Tensor(shape=(), dtype=np.object_)
    else:
        channels = 1 if index['grey'].all() else 3
        image = tfds.features.Image(shape=(None, None, channels))
    images = {'image': image, 'label': text, 'path': text}
    return tfds.features.FeaturesDict(
        {
            'case_id': text,
            'patient_id': text,
            'label': text,
            'images': tfds.features.Sequence(images),
        }
    )
