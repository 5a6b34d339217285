"""A synthetic data set of cases that needs no download. Not medical images.

A case is a lesion whose structure gives its class (dots, mesh, rings, ...); its one to six images
show it from other positions, angles and distances, under other light, on other skin.
"""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from big_ssl.data.phantom_images import CLASSES, other_camera, render
from big_ssl.errors import InputError
from big_ssl.files import cache_folder

VERSION = 1  # raise it when the table or a pixel changes
DOMAIN = 'synthetic-phantom'
ELSEWHERE_SEED = 1_000_000
COLUMNS = ('image_path', 'case_id', 'patient_id', 'label', 'split', 'domain')
SHARES = {'train': 0.7, 'val': 0.1, 'test': 0.2}
IMAGES_PER_CASE = (0.12, 0.26, 0.27, 0.18, 0.10, 0.07)  # share of cases with 1, 2, ... images


def phantom(
    cache_dir: str | os.PathLike | None = None,
    *,
    cases: int = 700,
    seed: int = 0,
    size: int = 48,
    elsewhere: bool = False,
) -> Path:
    """The manifest of a cached phantom, made on first use; two processes may ask at once.

    Args:
      cache_dir: default `files.cache_folder()`.
      cases, seed, size, elsewhere: see `make_phantom`.

    Raises:
      InputError: as `make_phantom`; or somebody has damaged the cache.
    """
    cache = Path(cache_dir).expanduser() if cache_dir else cache_folder()
    arguments: dict[str, Any] = {'cases': cases, 'seed': seed, 'size': size}
    arguments |= {'elsewhere': True} if elsewhere else {}
    digest = hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:8]
    folder = cache / f'phantom-v{VERSION}-{digest}'
    manifest = folder / 'manifest.csv'
    if not manifest.exists():
        with contextlib.suppress(FileExistsError):  # another process was faster: the same bytes
            make_phantom(folder, **arguments)
    if not manifest.exists():
        raise InputError(f'{folder}: holds no manifest.csv; delete the folder')
    return manifest


def make_phantom(
    folder: str | os.PathLike,
    *,
    cases: int = 700,
    seed: int = 0,
    size: int = 48,
    elsewhere: bool = False,
) -> Path:
    """Writes `images/*.png` and `manifest.csv`, all or nothing; a pure function of its arguments.

    Args:
      folder: new, or empty.
      cases: lesions, of 1 to 6 images each, about 3.1 on average; one patient in nine has two.
      seed: another seed is another data set.
      size: side of the images in pixels.
      elsewhere: of another clinic: other cases, another camera, and classes that are not balanced.

    Returns:
      the path of the manifest; its columns are `COLUMNS`.

    Raises:
      InputError: fewer than 20 cases or 16 pixels.
      FileExistsError: there is something in `folder` already.
    """
    if cases < 20 or size < 16:
        raise InputError(f'phantom: cases={cases}, size={size}: at least 20 cases and 16 pixels')
    folder = Path(folder)
    work = folder.with_name(f'{folder.name}.{uuid.uuid4().hex}')
    (work / 'images').mkdir(parents=True)
    try:
        seed += ELSEWHERE_SEED if elsewhere else 0
        rows = _table(cases, seed, elsewhere)
        for index, row in enumerate(rows):
            pixels = render(row['label'], seed, int(row['case_id'][1:]), index, size)
            if elsewhere:
                pixels = other_camera(pixels)
            Image.fromarray(pixels).save(work / row['image_path'])
        with (work / 'manifest.csv').open('w', newline='') as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
            writer.writeheader()
            writer.writerows(rows)
        _rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder / 'manifest.csv'


def _rename(work: Path, folder: Path) -> None:
    try:
        work.rename(folder)
    except OSError as error:  # the code for "not empty" differs between systems
        if folder.exists():
            raise FileExistsError(f'{folder} is there already') from error
        raise


def _table(cases: int, seed: int, elsewhere: bool) -> list[dict[str, str]]:
    """One row an image; splits are by patient, classes are balanced within each split.

    Elsewhere class i is seen in proportion to 1 / (i + 1).
    """
    rng = np.random.default_rng([seed, 0])
    doubles = cases // 10
    patients = cases - doubles
    patient = rng.permutation(np.concatenate([np.arange(patients), np.arange(doubles)]))
    bounds = np.cumsum([SHARES['train'], SHARES['val']]) * patients
    rank = rng.permutation(patients)
    split = np.searchsorted(bounds, rank, side='right')[patient]
    label = np.empty(cases, int)
    for part in range(len(SHARES)):
        members = np.flatnonzero(split == part)
        label[members] = rng.permutation(np.arange(len(members)) % len(CLASSES))
    if elsewhere:
        share = 1 / (1 + np.arange(len(CLASSES)))
        label = rng.choice(len(CLASSES), cases, p=share / share.sum())
    images = 1 + rng.choice(len(IMAGES_PER_CASE), cases, p=IMAGES_PER_CASE)
    names, splits = list(CLASSES), list(SHARES)
    return [
        {
            'image_path': f'images/c{case:05d}_{image}.png',
            'case_id': f'c{case:05d}',
            'patient_id': f'p{patient[case]:05d}',
            'label': names[label[case]],
            'split': splits[split[case]],
            'domain': f'{DOMAIN}-elsewhere' if elsewhere else DOMAIN,
        }
        for case in range(cases)
        for image in range(images[case])
    ]
