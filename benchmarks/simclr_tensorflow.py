"""The views of SimCLR by TensorFlow on the host, in the order of work of google-research/simclr
(`tf2/data.py`, `data_util.py`): the image is decoded whole, once; each view is cropped from all of
it as float32, resized, flipped and coloured. Blur is left to the device there (`tf2/model.py`)."""

from collections.abc import Callable

import tensorflow as tf

_STRENGTH = 1.0
_BRIGHTNESS = 0.8 * _STRENGTH  # contrast and saturation too
_HUE = 0.2 * _STRENGTH
_SIGMA = (0.1, 2.0)


def one_thread() -> None:
    """For all that TensorFlow does in this process; to be called before it does anything."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def make_pair(size: int, *, blur: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """From a JPEG, a scalar string, to both views, float32 [2, size, size, 3] in [0, 1].

    Args:
      size: of a side, in pixels.
      blur: on the host, half of the views.
    """

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
    def pair(data: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return tf.stack([_view(image, size, blur), _view(image, size, blur)])

    return pair


def _view(image: tf.Tensor, size: int, blur: bool) -> tf.Tensor:
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.resize(_random_crop(image), (size, size), 'bicubic')
    image = tf.image.random_flip_left_right(image)
    image = _sometimes(0.8, _jitter, image)
    image = _sometimes(0.2, _grey, image)
    if blur:
        image = _sometimes(0.5, _blur, image)
    return tf.ensure_shape(tf.clip_by_value(image, 0.0, 1.0), (size, size, 3))


def _random_crop(image: tf.Tensor) -> tf.Tensor:
    start, extent, _ = tf.image.sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=100,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.slice(image, start, extent)


def _sometimes(
    probability: float, change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor
) -> tf.Tensor:
    drawn = tf.random.uniform(()) < probability
    return tf.cond(drawn, lambda: change(image), lambda: image)


def _jitter(image: tf.Tensor) -> tf.Tensor:
    """The four colour operations in random order."""
    low, high = max(1 - _BRIGHTNESS, 0.0), 1 + _BRIGHTNESS
    operations = (
        lambda image: image * tf.random.uniform((), low, high),
        lambda image: tf.image.random_contrast(image, low, high),
        lambda image: tf.image.random_saturation(image, low, high),
        lambda image: tf.image.random_hue(image, _HUE),
    )
    order = tf.random.shuffle(tf.range(len(operations)))
    for place in range(len(operations)):
        branches = [lambda image=image, operation=each: operation(image) for each in operations]
        image = tf.clip_by_value(tf.switch_case(order[place], branches), 0.0, 1.0)
    return image


def _grey(image: tf.Tensor) -> tf.Tensor:
    return tf.repeat(tf.image.rgb_to_grayscale(image), 3, axis=-1)


def _blur(image: tf.Tensor) -> tf.Tensor:
    """A Gaussian over a tenth of the side, as two depthwise convolutions."""
    radius = image.shape[0] // 10 // 2
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-(distance**2) / (2 * tf.random.uniform((), *_SIGMA) ** 2))
    kernel = tf.tile((weights / tf.reduce_sum(weights))[:, None, None, None], (1, 1, 3, 1))
    for shape in (kernel, tf.transpose(kernel, (1, 0, 2, 3))):
        image = tf.nn.depthwise_conv2d(image[None], shape, (1, 1, 1, 1), 'SAME')[0]
    return image
