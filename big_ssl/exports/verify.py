"""Whether an export gives what its source gives, in the runtime that its receiver will use."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from big_ssl.errors import InputError
from big_ssl.exports.model import Model

LIMIT = 1e-4
_NOT_INSTALLED = 4
_PROGRAM = f"""
import pathlib, sys
folder, images, found = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(folder))
import numpy as np
try:
    import runtime
except ImportError as error:
    print(error)
    sys.exit({_NOT_INSTALLED})
run, images = runtime.load(folder), np.load(images)
np.save(found, np.concatenate([run(images), run(images[:1])]))
"""


def images_like_real_ones(size: int, count: int = 5) -> UInt8[np.ndarray, 'n size size 3']:
    """From flat to noisy, over all 256 values: a grey, gradients, waves, and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    planes = [np.full((size, size), 0.5), x, (np.sin(9 * x) * np.cos(7 * y) + 1) / 2]
    planes += [rng.uniform(size=(size, size)) for _ in range(count - len(planes))]
    tints = rng.uniform(0.3, 1.0, (count, 1, 1, 3))
    return np.rint(255 * np.stack(planes)[..., None] * tints).astype(np.uint8)


def difference(model: Model, folder: Path) -> float | None:
    """The largest difference of an output from the source, over the largest output.

    Of images together and of one alone, against the source one by one. None where what runs the
    format is not installed here.

    Raises:
      InputError: the export does not run, or differs by more than LIMIT.
    """
    images = images_like_real_ones(model.image_size)
    expected = model.reference(images)
    found = _run(folder, images)
    if found is None:
        return None
    expected = np.concatenate([expected, expected[:1]])
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise InputError(f'{folder}: gives {found.shape} numbers, the source {expected.shape}')
    largest = float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6))
    if largest > LIMIT:
        raise InputError(
            f'the export differs from its source by {largest:.2g}, more than {LIMIT:g}: not written'
        )
    return largest


def _run(
    folder: Path, images: UInt8[np.ndarray, 'n size size 3']
) -> Float[np.ndarray, 'n k'] | None:
    with tempfile.TemporaryDirectory() as temporary:
        given, found = Path(temporary) / 'images.npy', Path(temporary) / 'found.npy'
        np.save(given, images)
        done = subprocess.run(
            [sys.executable, '-c', _PROGRAM, str(folder), str(given), str(found)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == _NOT_INSTALLED:
            return None
        if done.returncode:
            last = (done.stderr.strip() or 'no message').splitlines()[-1]
            raise InputError(f'the export does not run, nothing is written: {last}')
        return np.load(found)
