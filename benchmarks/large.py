"""Photographs of 12 megapixels to pairs of 224-px views: decoded no larger than the crops need."""

import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.host_images import SIZE, Encoded, Images, crop_views, decode, open_images
from benchmarks.photographs import write_photographs
from benchmarks.results import Found, Target
from benchmarks.side_by_side import alternately, here, milliseconds, ratio

_SIDES = (3000, 4000)


def measured(quick: bool) -> Found:
    """Costs of an image by ours and by decoding alone, at the ratio of the plan and in full."""
    count, repeats = (1, 2) if quick else (4, 20)
    with tempfile.TemporaryDirectory() as folder:
        table = write_photographs(Path(folder) / 'images', count, *_SIDES)
        images = open_images('augment', count, manifest=table)
        works = _works(images, images.encoded())
        costs = alternately({name: here(work) for name, work in works.items()}, repeats)
    chosen, full = 'ours_over_decode_at_ratio', 'ours_over_full_decode'
    ratios = {
        chosen: ratio(costs['ours'], costs['decode_at_ratio']),
        full: ratio(costs['ours'], costs['full_decode']),
    }
    return Found(
        f'JPEGs of {_SIDES[1]} x {_SIDES[0]} to pairs of {SIZE}-px views, one thread, '
        'time an image; ratios of CPU time',
        milliseconds(costs) | ratios,
        (Target(chosen, '<=', 1.3),),
        ('decode_at_ratio: OpenCV, at the reduction (1, 2, 4 or 8) that the crops of the round '
         'allow',),
    )  # fmt: skip


def _works(images: Images, data: Encoded) -> Mapping[str, Callable[[], int]]:
    """Each goes through the same plans, one a round."""
    ours, decodes = itertools.count(), itertools.count()

    def at_ratio() -> int:
        plan = images.plan(next(decodes))
        for row, scale in zip(plan.images[:, 0].tolist(), plan.ratio[:, 0].tolist()):
            decode(images, data, row, scale)
        return len(plan.images)

    return {
        'full_decode': lambda: sum(1 for row in data if decode(images, data, row) is not None),
        'decode_at_ratio': at_ratio,
        'ours': lambda: crop_views(images, data, images.plan(next(ours))),
    }
