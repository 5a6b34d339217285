"""Images like photographs, drawn: what an image costs depends on how much of it is fine detail."""

import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

QUALITY = 90  # of the JPEGs


def textured(height: int, width: int, seed: int = 0) -> UInt8[np.ndarray, 'h w 3']:
    """As photographs are: amplitudes fall as 1 over the frequency, colours go together."""
    rng = np.random.default_rng(seed)
    shared = _field(rng, height, width)
    colours = [shared * 45 + _field(rng, height, width) * 15 + 120 for _ in range(3)]
    return np.stack(colours, axis=-1).clip(0, 255).astype(np.uint8)


def _field(rng: np.random.Generator, height: int, width: int) -> Float[np.ndarray, 'h w']:
    """Random values of mean 0 and deviation 1."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(y, x)
    frequency[0, 0] = np.inf
    noise = np.fft.rfft2(rng.normal(size=(height, width))) / frequency
    values = np.fft.irfft2(noise, s=(height, width))
    return values / values.std()


def write_photographs(
    folder: Path,
    count: int,
    height: int,
    width: int,
    *,
    images_per_case: int = 1,
    val: int = 0,
) -> Path:
    """JPEGs of so many pixels and their table, which is returned.

    Args:
      folder: made; nothing else should be in it.
      images_per_case: of which each case, and each patient, has so many.
      val: images of the split `val`, the first ones; the others are `train`.
    """
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        name, case = f'{number:05d}.jpg', number // images_per_case
        image = Image.fromarray(textured(height, width, number))
        image.save(folder / name, quality=QUALITY)
        split, label = ('val' if number < val else 'train'), f'class {case % 3}'
        rows.append((name, f'case {case}', f'patient {case}', label, split))
    table = folder / 'images.csv'
    with table.open('w', newline='', encoding='utf-8') as file:
        header = ('image_path', 'case_id', 'patient_id', 'label', 'split')
        csv.writer(file).writerows([header, *rows])
    return table
