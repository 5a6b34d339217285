"""DICOM files to records: what is stored of a CT, a film, a study of several frames."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip('pydicom', reason="pydicom is not installed (big_ssl's extra 'dicom')")

from big_ssl.data import records
from big_ssl.data.image_files import PNG
from big_ssl.data.images import decode, read_headers
from big_ssl.data.windows import Window
from big_ssl.errors import InputError
from big_ssl.preparation.make import make
from big_ssl.preparation.pictures import Reading
from tests.data.dicom_files import PERSONAL, dicom
from tests.helpers import write_table
from tests.preparation.sets import files, run, settings_of

CT = {'RescaleSlope': 1, 'RescaleIntercept': -1024, 'PhotometricInterpretation': 'MONOCHROME2'}


def study(folder, count=6, **attributes):
    """CT slices of patients with names; returns Hounsfield units and the table."""
    values = np.random.default_rng(0).integers(0, 3000, (count, 24, 31)).astype(np.uint16)
    rows = []
    for i, stored in enumerate(values):
        (folder / f'{i}.dcm').write_bytes(dicom(stored, **CT, **PERSONAL, **attributes))
        rows.append((f'{i}.dcm', f'study {i // 2}', f'p{i // 2}', 'ab'[i % 4 // 2], 'train'))
    return values.astype(int) - 1024, write_table(folder / 'table.csv', rows)


def stored_images(out):
    manifest = records.open_records(out)
    table = read_headers(manifest, np.arange(len(manifest)), 1)
    return manifest, np.stack([decode(table, row)[..., 0] for row in range(len(manifest))])


@pytest.mark.parametrize(
    ('window', 'low', 'high'), [(Window('values', -160, 240), -160, 240), (None, -100, 300)]
)
def test_hounsfield_units_are_windowed(tmp_path, window, low, high):
    """By --window, or by the file's own: PS3.3 C.11.2.1.2, LINEAR_EXACT."""
    own = {'WindowCenter': 100, 'WindowWidth': 400, 'VOILUTFunction': 'LINEAR_EXACT'}
    hounsfield, table = study(tmp_path, **own)
    settings = settings_of(tmp_path, table, reading=Reading(window=window))
    make(settings, run)
    manifest, found = stored_images(settings.out)
    expected = (np.clip(hounsfield, low, high) - low) / (high - low) * 255
    assert abs(found - expected).max() <= 0.5001
    assert set(manifest.store.formats) == {PNG}


def test_no_header_field_reaches_a_file(tmp_path):
    _, table = study(tmp_path)
    settings = settings_of(tmp_path, table)
    make(settings, run)
    held = files(tmp_path / 'set')
    for name, content in held.items():
        for value in PERSONAL.values():
            assert str(value).encode() not in content, name
    assert b'IHDR' in held['cases-train.array_record-00000-of-00001']


@pytest.mark.parametrize('case', ['c', ''])
def test_frames_are_refused_or_images_of_the_case(tmp_path, case):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 20, 30)).astype(np.uint8)
    (tmp_path / 'film.dcm').write_bytes(dicom(pixels, frames=5, WindowCenter=128, WindowWidth=256))
    table = write_table(tmp_path / 'table.csv', [('film.dcm', case, 'p', 'a', 'train')])
    settings = settings_of(tmp_path, table)
    with pytest.raises(InputError, match=r'row 2: .*film.dcm: 5 frames; --frames=split'):
        make(settings, run)
    make(dataclasses.replace(settings, reading=Reading(split_frames=True)), run)
    manifest, found = stored_images(settings.out)
    assert manifest.image_path.tolist() == [f'film.dcm#{i}' for i in range(5)]
    assert manifest.case_id.tolist() == [case or 'film.dcm'] * 5
    assert abs(found.astype(int) - pixels).max() <= 1


def test_burned_in_names_are_refused_or_accepted(tmp_path):
    _, table = study(tmp_path, BurnedInAnnotation='YES')
    settings = settings_of(tmp_path, table)
    with pytest.raises(InputError, match=r'burned into its pixels .*--burned_in=keep'):
        make(settings, run)
    make(dataclasses.replace(settings, reading=Reading(burned_in=True)), run)
    assert len(records.open_records(settings.out)) == 6
