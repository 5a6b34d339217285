import numpy as np
import pytest
from scipy import stats

from big_ssl.augment.crops import Crop, centre_box, crop_boxes


def uniforms(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 4))


@pytest.mark.parametrize(('height', 'width'), [(224, 224), (97, 300), (600, 41), (5, 7), (1, 1)])
def test_boxes_lie_inside(height, width):
    y, x, h, w = crop_boxes(uniforms(3, 2000, 10), height, width, Crop()).reshape(-1, 4).T
    assert (y >= 0).all() and (x >= 0).all() and (h > 0).all() and (w > 0).all()
    assert (y + h <= height).all() and (x + w <= width).all()
    if height == width == 224:
        assert y.min() == 0 and (y + h).max() == height
        assert ((h * w / 224**2 >= 0.08) & (w / h > 0.74) & (w / h < 1.35)).all()


def test_leading_axes_are_independent():
    u = uniforms(4, 3, 5)
    heights = np.array([[50], [60], [70], [80]])
    boxes = crop_boxes(u, heights, 64, Crop())
    for i in range(4):
        for j in range(3):
            single = crop_boxes(u[i, j], int(heights[i, 0]), 64, Crop())
            np.testing.assert_array_equal(boxes[i, j], single)


@pytest.fixture(scope='module')
def tensorflows_boxes():
    """y, x, height, width of 20,000 boxes by TensorFlow's op as SimCLR calls it, but for one."""
    tf = pytest.importorskip('tensorflow')

    @tf.function
    def drawn(height, width, min_object_covered):
        def one(seed):
            begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
                tf.stack([height, width, 3]),
                tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
                seed=tf.stack([seed, 5]),
                min_object_covered=min_object_covered,
                aspect_ratio_range=(3 / 4, 4 / 3),
                area_range=(0.08, 1.0),
                max_attempts=100,
            )
            return tf.concat([begin[:2], size[:2]], axis=0)

        return tf.map_fn(one, tf.range(20_000))

    return lambda *arguments: drawn(*map(tf.constant, arguments)).numpy()


@pytest.mark.parametrize('min_object_covered', [0.0, 0.1, 0.2])
@pytest.mark.parametrize(('height', 'width'), [(160, 160), (120, 200)])
def test_law_is_that_of_tensorflows_op(tensorflows_boxes, height, width, min_object_covered):
    theirs = tensorflows_boxes(height, width, min_object_covered)
    crop = Crop(min_object_covered=min_object_covered)
    ours = crop_boxes(uniforms(20_000, 10), height, width, crop)
    for name, value in {
        'height': lambda b: b[:, 2],
        'width': lambda b: b[:, 3],
        'area': lambda b: b[:, 2] * b[:, 3],
        'aspect': lambda b: b[:, 3] / b[:, 2],
    }.items():
        assert stats.ks_2samp(value(ours), value(theirs)).pvalue > 1e-3, name
    for axis, side in enumerate((height, width)):  # TensorFlow leaves the last position out
        a, b = (
            (boxes[:, axis] + 0.5) / np.maximum(side - boxes[:, 2 + axis] + last, 1)
            for boxes, last in ((ours, 1), (theirs, 0))
        )
        assert stats.ks_2samp(a, b).pvalue > 1e-3, 'yx'[axis]
    least = min_object_covered * height * width
    small = [(boxes[:, 2] * boxes[:, 3] < least).any() for boxes in (ours, theirs)]
    assert small == [False, False]


def test_a_twentieth_of_all_boxes_is_smaller_than_simclr_takes():
    """So many are drawn again, in SimCLR; all others are the very same boxes."""
    u = uniforms(20_000, 10)
    every, larger = (crop_boxes(u, 224, 224, Crop(min_object_covered=m)) for m in (0.0, 0.1))
    areas = every[:, 2] * every[:, 3] / 224**2
    assert 0.04 < (areas < 0.1).mean() < 0.07
    assert (larger[:, 2] * larger[:, 3] / 224**2).min() >= 0.1
    np.testing.assert_array_equal(larger[areas >= 0.1], every[areas >= 0.1])


def test_where_all_is_to_be_covered():
    """Only the whole image will do, which nearly no candidate is: the fallback is that too."""
    boxes = crop_boxes(uniforms(50, 10), 60, 60, Crop(min_object_covered=1.0))
    assert (boxes == [0, 0, 60, 60]).all()


def test_square_boxes_have_a_uniform_side():
    boxes = crop_boxes(uniforms(50000, 10), 100, 100, Crop((0.25, 1.0), (1.0, 1.0)))
    np.testing.assert_array_equal(boxes[:, 2], boxes[:, 3])
    sides, counts = np.unique(boxes[:, 2], return_counts=True)
    np.testing.assert_array_equal(sides, np.arange(50, 101))
    assert stats.chisquare(counts).pvalue > 1e-3
    corner = boxes[boxes[:, 2] == 60, 0]
    assert stats.chisquare(np.bincount(corner, minlength=41)).pvalue > 1e-3


def test_where_nothing_fits_the_largest_centred_box_is_taken():
    long, tall = (crop_boxes(uniforms(10), *sides, Crop()) for sides in ((30, 900), (900, 30)))
    np.testing.assert_array_equal(long, [0, 430, 30, 40])
    np.testing.assert_array_equal(tall, [430, 0, 40, 30])


@pytest.mark.parametrize('size', [(224, 224), (300, 451), (451, 300), (33, 35), (1, 1)])
def test_centre_box_is_simclrs(size):
    height, width = size
    side = round(0.875 * min(size))
    expected = [(height - side + 1) // 2, (width - side + 1) // 2, side, side]
    np.testing.assert_array_equal(centre_box(height, width), expected)


def test_centre_box_of_many_images():
    boxes = centre_box(np.array([224, 100]), np.array([224, 50]))
    np.testing.assert_array_equal(boxes, [[14, 14, 196, 196], [28, 3, 44, 44]])


def test_sides_of_32_bits_whose_product_has_more():
    u = uniforms(50, 10)
    sides = np.full(50, 60_000, np.int32)
    expected = crop_boxes(u, 60_000, 60_000, Crop())
    assert (crop_boxes(u, sides, sides, Crop()) == expected).all()
