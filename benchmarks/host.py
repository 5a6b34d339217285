"""From a JPEG of 500 x 375 to both views of a pair on the host, one thread: ours and others'."""

import io
import itertools
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import torch
from PIL import Image

from benchmarks import peers, simclr_tensorflow
from benchmarks.host_images import SIZE, Encoded, Images, crop_views, decode, open_images
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Target
from benchmarks.side_by_side import Way, alternately, here, milliseconds, ratio

_SIDES = (375, 500)
_PEERS = ('lightly', 'simclr')
_DECODERS = ('opencv_decode', 'pillow_decode', 'tensorflow_decode')


def measured(quick: bool) -> Found:
    """Costs of an example: one image for SimCLR, two for MICLe."""
    simclr_tensorflow.one_thread()
    torch.set_num_threads(1)
    # Short turns: noise lasts seconds.
    count, repeats = (8, 2) if quick else (32, 25)
    with tempfile.TemporaryDirectory() as folder:
        table = write_photographs(Path(folder) / 'images', count, *_SIDES, images_per_case=2)
        simclr = open_images('augment', count, manifest=table)
        micle = open_images('case', count // 2, manifest=table)
        data = simclr.encoded()
        pair = alternately(_ways_of_pair(simclr, data), repeats)
        cases = alternately(_ways_of_case(micle, data), repeats)
    ratios = {f'simclr_pair/ours_over_{name}': ratio(pair['ours'], pair[name])
              for name in _DECODERS}  # fmt: skip
    ratios |= {f'simclr_pair/{name}_over_ours': ratio(pair[name], pair['ours']) for name in _PEERS}
    ratios['micle_pair/ours_over_two_decodes'] = ratio(cases['ours'], cases['two_decodes'])
    costs = _within('simclr_pair', pair) | _within('micle_pair', cases)
    return Found(
        f'{count} JPEGs of {_SIDES[1]} x {_SIDES[0]} to pairs of {SIZE}-px views, one thread, '
        'time an example; ratios of CPU time',
        milliseconds(costs) | ratios,
        (
            Target('simclr_pair/ours_over_opencv_decode', '<=', 1.35),
            Target('simclr_pair/lightly_over_ours', '>=', 5.5),
            Target('simclr_pair/simclr_over_ours', '>=', 4.5),
            Target('micle_pair/ours_over_two_decodes', '<=', 1.3),
        ),
        (
            "lightly's and SimCLR's include colour and blur on the host; ours leaves both to the "
            'device (part step)',
            "simclr: SimCLR's augmentation in TensorFlow's operations, written from the paper; "
            'each view decodes its crop',
        ),
    )


def _ways_of_pair(images: Images, data: Encoded) -> Mapping[str, Way]:
    peers.torchvision()
    from lightly.transforms import SimCLRTransform  # imports torchvision

    steps = itertools.count()
    transform = SimCLRTransform(input_size=SIZE)
    pair = simclr_tensorflow.make_pair(SIZE)
    rows, encoded = data.keys(), data.values()
    works: Mapping[str, Callable[[], int]] = {
        'opencv_decode': lambda: _all(lambda row: decode(images, data, row), rows),
        'pillow_decode': lambda: _all(lambda each: np.asarray(_opened(each)), encoded),
        'tensorflow_decode': lambda: _all(_by_tensorflow, encoded),
        'ours': lambda: crop_views(images, data, images.plan(next(steps))),
        'lightly': lambda: _all(lambda each: transform(_opened(each)), encoded),
        'simclr': lambda: _all(pair, encoded),
    }
    return {name: here(work) for name, work in works.items()}


def _ways_of_case(images: Images, data: Encoded) -> Mapping[str, Way]:
    steps = itertools.count()

    def decodes() -> int:
        return _all(lambda row: decode(images, data, row), data) // 2

    return {
        'two_decodes': here(decodes),
        'ours': here(lambda: crop_views(images, data, images.plan(next(steps)))),
    }


def _all(function: Callable, values: Iterable) -> int:
    """Calls the function with each value; returns how many there were."""
    return sum(1 for value in values if function(value) is not None)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert('RGB')


def _by_tensorflow(data: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(data, channels=3, dct_method='INTEGER_ACCURATE').numpy()


def _within(pair: str, costs: Mapping[str, list]) -> dict[str, list]:
    return {f'{pair}/{name}': each for name, each in costs.items()}
