"""Tables with made images, and making record sets of them in this process."""

import numpy as np

from big_ssl import config as config_lib
from big_ssl.data import datasets
from big_ssl.preparation.settings import Settings
from tests.helpers import save, smooth, write_table

HEADER = ('image_path', 'case_id', 'patient_id', 'label', 'split', 'age', 'patient_name')


def run(tasks, what):
    """Every piece of work in this process."""
    for task in tasks:
        if not task.is_done():
            task.run()


def rows_of(count=30):
    """Images of cases of one to three, patients of two cases."""
    rows, case = [], 0
    while len(rows) < count:
        for view in range(1 + case % 3):
            split = ('train', 'train', 'val', 'test')[case // 2 % 4]
            name = f'images/c{case}_{view}.{("png", "jpg")[case % 2]}'
            rows.append((name, f'c{case}', f'p{case // 2}', 'ab'[case % 2], split, str(20 + case),
                         f'Jane Secret {case}'))  # fmt: skip
        case += 1
    return rows


def made_table(folder, rows=None, header=HEADER):
    """A table and its images; returns the path of the table."""
    rows = rows_of() if rows is None else rows
    for i, row in enumerate(rows):
        save(folder / row[0], smooth(24 + i, 40, seed=i, noise=30))
    return write_table(folder / 'table.csv', rows, header)


def settings_of(folder, table=None, **changes):
    return Settings(out=str(folder / 'set'), manifest=table or made_table(folder), **changes)


def config_of(**dataset):
    config = config_lib.defaults()
    for key, value in dataset.items():
        config.dataset[key] = value
    return config_lib.settle(config)


def opened(config):
    manifest = datasets.open_manifest(config)
    return datasets.open_images(config, manifest, np.arange(len(manifest)))


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }
