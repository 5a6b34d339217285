"""Images to measure with, as a table that `dataset.manifest` takes."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

IMAGE_TYPES = ('.jpg', '.jpeg', '.png')


def table_of(folder: Path, table: Path) -> Path:
    """A manifest of all images below a folder, each a case of its own, all to be trained on.

    Raises:
      FileNotFoundError: there is none.
    """
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in IMAGE_TYPES)
    if not paths:
        raise FileNotFoundError(f'{folder}: no {", ".join(IMAGE_TYPES)}')
    with table.open('w', newline='', encoding='utf-8') as file:
        rows = ((path.resolve(), 'train') for path in paths)
        csv.writer(file).writerows([('image_path', 'split'), *rows])
    return table


def draw_images(folder: Path, count: int, side: int) -> None:
    """Files of noise, where there are no real ones."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.jpg')
