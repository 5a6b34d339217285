"""TensorFlow as it is used here: on the host, for tf.data and files, never on an accelerator."""

import os
from typing import Any


def import_tensorflow() -> Any:
    """The module, to which GPUs and TPUs are invisible: JAX has their memory.

    It takes seconds, so it is imported where it is needed, beside other work.

    Raises:
      ImportError: it is not installed.
    """
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # not a line on each start
    import tensorflow as tf

    for kind in ('GPU', 'TPU'):
        tf.config.set_visible_devices([], kind)
    return tf
