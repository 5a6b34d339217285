"""TensorFlow as it is used here: on the host, for tf.data and files, never on an accelerator."""

import os
from typing import Any

from big_ssl import heap


def import_tensorflow() -> Any:
    """The module, to which GPUs and TPUs are invisible: JAX has their memory.

    It takes seconds, so it is imported where it is needed, beside other work.

    Raises:
      ImportError: it is not installed.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # what goes wrong is raised, and said once
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # of networks, which are JAX's: no line
    with heap.not_searched():
        import tensorflow as tf

    for kind in ('GPU', 'TPU'):
        tf.config.set_visible_devices([], kind)
    return tf
