"""What lets TensorFlow Datasets open a record set: the layout of a record, and metadata beside."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from big_ssl.data.image_files import PNG16

DATASET, UNSPLIT = 'cases', 'unsplit'
_TEMPLATE = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}'


def file_name(split: str, shard: int, shards: int) -> str:
    """Of a shard of a split ('' is none)."""
    return f'{DATASET}-{split or UNSPLIT}.array_record-{shard:05d}-of-{shards:05d}'


def record(
    case_id: str,
    patient_id: str,
    label: str,
    image_labels: Sequence[str],
    image_paths: Sequence[str],
    images: Sequence[bytes],
) -> bytes:
    """A case as a `tf.train.Example` laid out as TFDS's `Sequence` of features is.

    Args:
      case_id, patient_id, label: of the case; '' is "not known".
      image_labels, image_paths, images: of each image; `images` are encoded.
    """
    from tensorflow.core.example import example_pb2, feature_pb2

    texts = {
        'case_id': [case_id],
        'patient_id': [patient_id],
        'label': [label],
        'images/label': image_labels,
        'images/path': image_paths,
    }
    values = {name: [text.encode() for text in some] for name, some in texts.items()}
    features = {
        name: feature_pb2.Feature(bytes_list=feature_pb2.BytesList(value=some))
        for name, some in (values | {'images/image': list(images)}).items()
    }
    example = example_pb2.Example(features=feature_pb2.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def write_metadata(folder: epath.Path, index: pd.DataFrame) -> None:
    """Writes `features.json` and `dataset_info.json`, for `tfds.builder_from_directory`.

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
