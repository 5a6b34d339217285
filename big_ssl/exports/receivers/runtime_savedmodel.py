"""Runs the SavedModel in TensorFlow."""

import numpy as np
import tensorflow as tf


def load(folder):
    """uint8 images [n, size, size, 3] to the model's outputs [n, k], as a function."""
    model = tf.saved_model.load(str(folder))
    takes_bytes = model.takes.numpy().decode() == 'uint8'

    def run(images):
        batch = images if takes_bytes else images.astype(np.float32) / 255
        return model(tf.constant(batch)).numpy()

    return run
