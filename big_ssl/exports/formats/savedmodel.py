"""A SavedModel of TensorFlow, for any number of images."""

from pathlib import Path

import numpy as np

from big_ssl.exports.model import Model

REQUIREMENTS = ('numpy', 'pillow', 'tensorflow')
AXES = 'NHWC'
BAKES = True
AT_ONCE = 8


def write(model: Model, folder: Path) -> None:
    """Callable as it is, and as `serving_default`.

    The program within takes AT_ONCE images: those given are cut into parts, the last one filled
    up. A program of any number of images cannot be made by every JAX (0.12 refuses).
    """
    import tensorflow as tf
    from jax.experimental import jax2tf

    size, dtype = model.image_size, tf.uint8 if model.baked else tf.float32
    program = jax2tf.convert(model.function_of_variables(), with_gradient=False)
    variables = tf.nest.map_structure(tf.Variable, model.variables)  # a graph holds 2 GB at most
    some = tf.function(
        lambda images: program(variables, images),
        input_signature=[tf.TensorSpec((AT_ONCE, size, size, 3), dtype)],
        autograph=False,
    )

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), dtype, name='images')])
    def run(images: 'tf.Tensor') -> 'tf.Tensor':
        count = tf.shape(images)[0]
        parts = -(-count // AT_ONCE)
        padded = tf.pad(images, [[0, parts * AT_ONCE - count], [0, 0], [0, 0], [0, 0]])
        cut = tf.reshape(padded, [parts, AT_ONCE, size, size, 3])
        found = tf.map_fn(some, cut, fn_output_signature=tf.float32)
        return tf.reshape(found, [parts * AT_ONCE, found.shape[-1]])[:count]

    module = tf.Module()
    module.takes = tf.Variable(np.dtype(dtype.as_numpy_dtype).name, trainable=False)
    module.variables_of_network = variables
    module.__call__ = run
    tf.saved_model.save(module, str(folder), signatures={'serving_default': run})
