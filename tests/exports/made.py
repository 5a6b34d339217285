"""Networks to export without a training, and a fine-tuned run on image files of many kinds."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from big_ssl import config as config_lib
from big_ssl.data.labels import Task
from big_ssl.exports.model import Model
from big_ssl.models.networks import ClassifierNetwork
from big_ssl.tasks import build
from tests import helpers
from tests.weights import networks

CLASSES = ('benign', 'malignant', 'other, or none')
SIZE = 40
SPLITS = ('train', 'train', 'val', 'test')


def model(task: Task | None = None, *, baked: bool = False, size: int = SIZE, **settings) -> Model:
    """A network of these settings whose variables are drawn, activations of the order of one."""
    config = config_lib.defaults()
    given = {key.replace('__', '.'): value for key, value in settings.items()}
    if 'model.name' not in given:
        given = {'model.depth': 18, 'model.width': 0.25, **given}
    config.update_from_flattened_dict({**given, 'image_size': size})
    config_lib.close(config)
    network = ClassifierNetwork(build.make_encoder(config), task.outputs if task else 1)
    shapes = jax.eval_shape(
        lambda: network.init(jax.random.key(0), np.zeros((1, size, size, 3), 'f'), train=False)
    )
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        name = {'scale': 'weight', 'var': 'running_var'}.get(path[-1].key, path[-1].key)
        drawn = networks.drawn(name, leaf.shape[::-1], rng)
        return np.ascontiguousarray(drawn.T)

    variables = jax.tree.map_with_path(draw, dict(shapes))
    if task is None:
        variables = {name: {'encoder': tree['encoder']} for name, tree in variables.items()}
    about = {'trained_on': {'trained_on/data': 'table.csv', 'trained_on/fingerprint': 'abc'}}
    return Model(
        encoder=network.encoder,
        variables=variables,
        task=task,
        baked=baked,
        settings=config_lib.flat(config.to_dict()),
        about=about,
        step=7,
        result={'test/auc_macro': 0.8, 'test/auc_macro/low': 0.7, 'test/auc_macro/high': 0.9},
    )


def single() -> Task:
    return Task(CLASSES, multilabel=False)


def image_files(folder: Path) -> str:
    """The manifest of 24 cases of one or two images: JPEG, PNG, grey, turned, with 16 bits."""
    rows = []
    for case in range(24):
        label = 'ab'[case // 5 % 2]
        for view in range(1 + case % 2):
            pixels = helpers.smooth(50 + case, 70 - view, seed=10 * case + view, noise=9.0)
            image = Image.fromarray(pixels if label == 'a' else pixels // 2)
            name = f'{case:02d}_{view}.{("jpg", "png")[case % 2]}'
            rows.append((name, f'case{case}', f'p{case}', label, SPLITS[case % 4]))
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _save(image, folder / name, kind=case % 6)
    return helpers.write_table(folder / 'table.csv', rows)


def _save(image: Image.Image, path: Path, kind: int) -> None:
    exif = image.getexif()
    if kind == 0:
        exif[0x0112] = 6  # turned by a quarter
    if kind == 1:
        image = image.convert('L')
    if kind == 3:
        image = image.convert('P')
    if kind == 5:
        grey = np.asarray(image.convert('L')).astype(np.uint16) * 150 + 3000
        image = Image.fromarray(grey)
    image.save(path, exif=exif) if kind == 0 else image.save(path)


def run_predict(folder: Path, images: Path, out: Path) -> subprocess.CompletedProcess:
    """predict.py as its receiver runs it, in a Python that has no big_ssl."""
    program = (
        'import runpy, sys; sys.modules["big_ssl"] = None; '
        f'sys.path[0] = {str(folder)!r}; sys.argv = ["predict.py", *sys.argv[1:]]; '
        f'runpy.run_path({str(folder / "predict.py")!r}, run_name="__main__")'
    )
    command = [sys.executable, '-c', program, str(images), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
