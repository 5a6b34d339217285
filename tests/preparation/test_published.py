"""A public data set as its owners publish it: raw folder → records → a training."""

import numpy as np
import pytest

from big_ssl import prepare
from big_ssl.data import records
from big_ssl.data.labels import encode, find_task
from tests import runs
from tests.data.sources.published_trees import write
from tests.data.sources.test_chexpert import HEADER
from tests.helpers import save, smooth

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')
FINDINGS = HEADER.split(',')[6:]


def plant(raw, split, patients):
    """A CheXpert table with two studies a patient, of one and two films; Edema, or uncertain."""
    lines = []
    for patient in patients:
        for study, films in ((1, 1), (2, 2)):
            for film in range(1, films + 1):
                name = f'{split}/patient{patient:05d}/study{study}/view{film}_frontal.jpg'
                save(
                    raw / name,
                    smooth(64, 56, seed=10 * patient + 3 * study + film, noise=30)[..., 0],
                )
                edema = ('1.0', '-1.0', '')[patient % 3]
                values = [edema if finding == 'Edema' else '' for finding in FINDINGS]
                lines.append(','.join([f'CheXpert-v1.0-small/{name}', 'Male', '50', 'Frontal', 'AP',
                                       '', *values]))  # fmt: skip
    write(raw, f'{split}.csv', HEADER, *lines)


@pytest.mark.long
def test_chexpert_from_its_folder_to_a_training(tmp_path, capsys, compile_cache):
    raw = tmp_path / 'CheXpert-v1.0-small'
    plant(raw, 'train', range(1, 13))
    plant(raw, 'valid', range(20, 26))
    out = tmp_path / 'set'
    flags = ['--source=chexpert', f'--raw={tmp_path}', f'--out={out}', '--workers=1']
    assert prepare.main(['prepare', *flags]) == 0
    said = capsys.readouterr().err
    assert '--config.labels.kind=multi --config.labels.negative="No Finding"' in said

    manifest = records.open_records(str(out))
    assert len(manifest) == 54 and len(set(manifest.case_id)) == 36
    assert set(manifest.split) == {'train', 'val'} and len(set(manifest.patient_id)) == 18
    assert manifest.where(0).endswith('set: CheXpert-v1.0-small/train.csv row 2')
    assert str(tmp_path) not in (out / 'prepared.json').read_text()
    rows = np.arange(len(manifest))
    task = find_task(manifest, rows, 'multi', 'No Finding')
    known = encode(manifest, rows, task)[:, task.classes.index('Edema')]
    patient = np.array([int(name.removeprefix('patient')) for name in manifest.patient_id])
    np.testing.assert_array_equal(known, np.array([1, np.nan, 0])[patient % 3])

    settings = [
        flag
        for flag in runs.flags('chexpert_simclr', tmp_path / 'run', '')
        if 'manifest' not in flag
    ]
    runs.run([*settings, '--config.dataset.name=records', f'--config.dataset.data_dir={out}',
              '--config.labels.kind=multi', '--config.total_steps=4'], compile_cache)  # fmt: skip
    result = runs.result(tmp_path / 'run')
    assert result['trained_on/images'] == 36 and result['trained_on/data'] == str(out)
