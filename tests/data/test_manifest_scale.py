"""A table of the size of CheXpert, within a gigabyte."""

import pathlib
import subprocess
import sys

import pytest

from tests import runs

ROWS = 225_000
CHECK = """
import sys
from big_ssl.data.manifest import COLUMNS, read_manifest
manifest = read_manifest(sys.argv[1], columns={name: name for name in COLUMNS})
with open('/proc/self/status') as status:
    kilobytes = next(line.split()[1] for line in status if line.startswith('VmHWM'))
print(len(manifest), len(set(manifest.patient_id)), kilobytes)
"""


@pytest.mark.skipif(not pathlib.Path('/proc/self/status').exists(), reason='needs /proc')
def test_225_000_rows_are_checked_within_a_gigabyte(tmp_path):
    """By VmHWM, for getrusage's peak is at least that of the process which started this one."""
    labels = ('No Finding', 'Edema', 'Edema?|Cardiomegaly', '', 'Atelectasis')
    with (tmp_path / 'table.csv').open('w') as file:
        file.write('image_path,case_id,patient_id,label,split,sex,age,view,projection\n')
        for i in range(ROWS):
            patient, study = i // 4, i // 2 % 2
            name = f'CheXpert-v1.0/train/patient{patient:05d}/study{study}/view{i % 2}_frontal.jpg'
            split = ('train', 'train', 'train', 'val', 'test')[patient % 5]
            file.write(f'{name},p{patient}/s{study},p{patient},{labels[i % 5]},{split},')
            file.write(f'{"MF"[patient % 2]},{18 + patient % 70},Frontal,AP\n')
    command = [sys.executable, '-c', CHECK, str(tmp_path / 'table.csv')]
    ended = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=True)
    rows, patients, kilobytes = map(int, ended.stdout.split())
    assert (rows, patients) == (ROWS, -(-ROWS // 4))
    assert kilobytes < 1e6
