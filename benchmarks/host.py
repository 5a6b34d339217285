"""From a JPEG of 500 x 375 to both views of a pair on the host, one thread: ours and others'."""

import io
import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import torch
from PIL import Image

from benchmarks import simclr_tensorflow
from benchmarks.host_images import SIZE, Encoded, Images, crop_views, decode, open_images
from benchmarks.peers import torchvision
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Target
from benchmarks.side_by_side import Way, alternately, here, milliseconds, ratio

_SIDES = (375, 500)
_BATCHES = 25  # that the ways go through, again and again
_PEERS = ('lightly', 'simclr', 'simclr_with_blur')
_DECODERS = ('opencv_decode', 'pillow_decode', 'tensorflow_decode')


def measured(quick: bool) -> Found:
    """Costs of an example: one image for SimCLR, two for MICLe."""
    simclr_tensorflow.one_thread()
    torch.set_num_threads(1)
    # Short turns: noise lasts seconds. Far more images than a turn has, or each would begin an
    # epoch, whose order is drawn as a whole.
    count, batch, repeats, with_peers = (16, 8, 2, 2) if quick else (512, 32, 100, 25)
    with tempfile.TemporaryDirectory() as folder:
        table = write_photographs(Path(folder) / 'images', count, *_SIDES, images_per_case=2)
        simclr = open_images('augment', batch, manifest=table)
        micle = open_images('case', batch // 2, manifest=table)
        data = simclr.encoded()
        pair = alternately(_decoders(simclr, data), repeats)
        peers = alternately(_peers(simclr, data), with_peers)
        cases = alternately(_ways_of_case(micle, data), repeats)
    ratios = {f'simclr_pair/ours_over_{name}': ratio(pair['ours'], pair[name])
              for name in _DECODERS}  # fmt: skip
    ratios |= {
        f'simclr_pair/{name}_over_ours': ratio(peers[name], peers['ours']) for name in _PEERS
    }
    # What a pair would reach that cost its decode alone.
    ratios['simclr_pair/simclr_over_opencv_decode'] = ratio(peers['simclr'], peers['opencv_decode'])
    ratios['micle_pair/ours_over_two_decodes'] = ratio(cases['ours'], cases['two_decodes'])
    costs = _within('simclr_pair', peers | pair) | _within('micle_pair', cases)
    return Found(
        f'JPEGs of {_SIDES[1]} x {_SIDES[0]} to pairs of {SIZE}-px views, one thread, turns of '
        f'{batch} of {count} images, time an example; ratios of CPU time',
        milliseconds(costs) | ratios,
        (
            Target('simclr_pair/ours_over_opencv_decode', '<=', 1.35),
            Target('simclr_pair/lightly_over_ours', '>=', 5.5),
            Target('simclr_pair/simclr_over_ours', '>=', 4.5),
            Target('micle_pair/ours_over_two_decodes', '<=', 1.3),
        ),
        (
            "lightly's has colour and blur on the host, SimCLR's colour; ours leaves both to the "
            'device (part step)',
            "simclr: the order of work of SimCLR's own code (tf2), in TensorFlow's operations; "
            'with_blur: what it leaves to the device too',
        ),
    )


def _decoders(images: Images, data: Encoded) -> Mapping[str, Way]:
    return {
        'opencv_decode': _of_each(images, lambda row: decode(images, data, row)),
        'ours': _ours(images, data),
        'pillow_decode': _of_each(images, lambda row: np.asarray(_opened(data[row]))),
        'tensorflow_decode': _of_each(images, lambda row: _by_tensorflow(data[row])),
    }


def _peers(images: Images, data: Encoded) -> Mapping[str, Way]:
    torchvision()
    from lightly.transforms import SimCLRTransform  # imports torchvision

    transform = SimCLRTransform(input_size=SIZE)
    simclr, with_blur = (simclr_tensorflow.make_pair(SIZE, blur=blur) for blur in (False, True))
    return {
        'ours': _ours(images, data),
        'opencv_decode': _of_each(images, lambda row: decode(images, data, row)),
        'lightly': _of_each(images, lambda row: transform(_opened(data[row]))),
        'simclr': _of_each(images, lambda row: simclr(data[row])),
        'simclr_with_blur': _of_each(images, lambda row: with_blur(data[row])),
    }


def _ways_of_case(images: Images, data: Encoded) -> Mapping[str, Way]:
    decodes = _of_each(images, lambda row: decode(images, data, row))
    return {'two_decodes': decodes, 'ours': _ours(images, data)}


def _ours(images: Images, data: Encoded) -> Way:
    """Each turn makes the views of one batch more; which images and boxes is decided then too."""
    steps = itertools.cycle(range(_BATCHES))
    return here(lambda: crop_views(images, data, images.plan(next(steps))))


def _of_each(images: Images, function: Callable[[int], Any]) -> Way:
    """Each turn calls it with the images of one batch more, the same as those of `_ours`."""
    rows = [images.sampler.batch(step).images for step in range(_BATCHES)]
    batches = itertools.cycle([list(map(dict.fromkeys, batch.tolist())) for batch in rows])

    def turn() -> int:
        batch = next(batches)
        for row in itertools.chain(*batch):
            function(row)
        return len(batch)

    return here(turn)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert('RGB')


def _by_tensorflow(data: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(data, channels=3, dct_method='INTEGER_ACCURATE').numpy()


def _within(pair: str, costs: Mapping[str, list]) -> dict[str, list]:
    return {f'{pair}/{name}': each for name, each in costs.items()}
