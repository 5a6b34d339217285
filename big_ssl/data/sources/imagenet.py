"""ImageNet, or any other images in folders of classes."""

import numpy as np
import pandas as pd

from big_ssl.data.sources import rows
from big_ssl.data.sources.published import LISTED_IN, Listing, PublishedSet
from big_ssl.data.sources.raw_folder import RawFolder, is_image, join, listed

_LAYOUT = """\
train/n01440764/n01440764_10026.JPEG
val/n01440764/ILSVRC2012_val_00000293.JPEG
or, without splits:
n01440764/n01440764_10026.JPEG"""
_SPLITS = {'train': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val', 'test': 'test'}


def _read(path: str) -> Listing:
    raw = RawFolder(path, _LAYOUT)
    tops, _ = listed(raw.path)
    splits = [name for name in tops if name in _SPLITS]
    if splits and (others := [name for name in tops if name not in _SPLITS]):
        raw.announcements.append(
            f'{raw.path}: folders that are no split, left out: {", ".join(others)}'
        )
    parts = [_part(raw, split) for split in splits or ['']]
    if not any(map(len, parts)):
        raise raw.lacks('no image in a folder of its class')
    return rows.listing(raw, parts)


def _part(raw: RawFolder, split: str) -> pd.DataFrame:
    """The images of a split, or those of the whole folder."""
    classes, loose = listed(join(raw.path, split))
    if outside := sum(map(is_image, loose)):
        raw.announcements.append(
            f'{join(raw.path, split)}: {outside} images in no folder of a class, left out'
        )
    folders = [join(split, name) for name in classes]
    names = [list(filter(is_image, listed(join(raw.path, folder))[1])) for folder in folders]
    counts = list(map(len, names))
    table = pd.DataFrame(
        {
            'image_path': [join(folder, name) for folder, of in zip(folders, names) for name in of],
            'case_id': '',
            'patient_id': '',
            'label': np.repeat(np.array(classes, object), counts),
            LISTED_IN: np.repeat(np.array([join(raw.path, at) for at in folders], object), counts),
        }
    )
    return table.assign(split=_SPLITS[split]) if split else table


SOURCE = PublishedSet(
    name='imagenet',
    title='ImageNet, ILSVRC 2012 (Russakovsky et al. 2015, Int. J. Comput. Vis. 115, 211-252, '
    'doi:10.1007/s11263-015-0816-y)',
    url='https://image-net.org/',
    terms='ImageNet terms of access: non-commercial research and education',
    layout=_LAYOUT,
    case='none: natural images, each by itself',
    read=_read,
)
