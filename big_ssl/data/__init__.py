"""Tables of images, and their way to the devices.

`training_dataset` and `evaluation_dataset` are what a run reads, as `tf.data.Dataset`s.
"""

from typing import Any

from ml_collections import ConfigDict


def training_dataset(config: ConfigDict, *, first_step: int = 0) -> Any:
    """Every batch that a run of this config trains on, from `first_step` on, without an end.

    The `tf.data.Dataset` of `pipeline.training_batches`, whose elements are dictionaries: `views`
    uint8 [b, v, size, size, c], `examples` uint32 [b], `groups` int32 [b], and for
    a method that wants labels `targets` (class numbers int32 [b], or float32 [b, k] of 0, 1 and
    NaN). The whole global batch, as with one host.

    Args:
      config: settled (`big_ssl.config.settle`), task contrastive or supervised.

    Raises:
      InputError: the data cannot be used, in a line that names file and row.
      ImportError: TensorFlow is not installed.
    """
    import numpy as np

    from big_ssl import config as config_lib
    from big_ssl.data import datasets, feed, pipeline, training
    from big_ssl.errors import InputError

    if config.task not in config_lib.TRAINING:
        raise InputError(f'config: task={config.task} trains nothing')
    manifest = datasets.open_manifest(config)
    examples = training.examples(config, manifest, config_lib.method_of(config).LABELS)
    return pipeline.training_batches(
        datasets.open_images(config, manifest, examples.rows),
        examples.sampler,
        range(first_step, np.iinfo(np.int64).max),
        slice(None),
        size=config.image_size,
        crop=feed.crop_of(config),
        by_image=examples.by_image,
    )


def evaluation_dataset(config: ConfigDict) -> Any:
    """The images of `splits.evaluate` as a network is judged on them, each once.

    A `tf.data.Dataset` of dictionaries: `images` uint8 [b, size, size, c], the crops of
    `images.evaluation_image`, and `rows` int64 [b] of the manifest. The last batch is smaller.

    Args:
      config: settled.

    Raises:
      InputError: the data cannot be used, in a line that names file and row.
      ImportError: TensorFlow is not installed.
    """
    from big_ssl import config as config_lib
    from big_ssl.data import datasets, pipeline

    manifest = datasets.open_manifest(config)
    rows = manifest.rows(config_lib.names(config.splits.evaluate))
    return pipeline.evaluation_images(
        datasets.open_images(config, manifest, rows),
        rows,
        batch_size=config.batch_size,
        size=config.image_size,
        proportion=config.crop.evaluation,
    )
