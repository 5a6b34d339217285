"""Runs model.onnx in ONNX Runtime."""

import numpy as np
import onnxruntime


def load(folder):
    """uint8 images [n, size, size, 3] to the model's outputs [n, k], as a function."""
    session = onnxruntime.InferenceSession(
        str(folder / 'model.onnx'), providers=['CPUExecutionProvider']
    )
    entry = session.get_inputs()[0]

    def run(images):
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        if entry.type == 'tensor(float)':
            batch = batch.astype(np.float32) / 255
        return session.run(None, {entry.name: batch})[0]

    return run
