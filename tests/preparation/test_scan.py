import hashlib

import numpy as np
import pytest

from big_ssl.data.image_files import JPEG, PNG, PNG16
from big_ssl.preparation.pictures import Reading
from big_ssl.preparation.scan import digest, read_source, scan
from tests.helpers import smooth
from tests.preparation.test_duplicates import hash_by_matrices, luma, picture
from tests.preparation.test_metadata import encode, exif, opened

COLOUR = picture(0, 40, 60)
DEEP = (COLOUR[..., 0].astype(np.uint16) - 20) * 100
EMPTY = {'size': 0, 'sha256': '', 'height': 0, 'width': 0, 'format': 0, 'orientation': 1,
         'grey': False, 'mean': 0.0, 'deviation': 0.0, 'perceptual_hash': b''}  # fmt: skip
FILES = {
    'colour.png': (encode(COLOUR, 'PNG'), (40, 60, PNG, 1, False)),
    'grey.jpg': (encode(COLOUR[..., 0]), (40, 60, JPEG, 1, True)),
    'turned.jpg': (encode(COLOUR, exif=exif(6)), (60, 40, JPEG, 6, False)),
    'turned.png': (encode(COLOUR, 'PNG', exif=exif(3)), (40, 60, PNG, 3, False)),
    'deep.png': (encode(DEEP, 'PNG'), (40, 60, PNG16, 1, True)),
    'a.tiff': (encode(COLOUR, 'TIFF'), (40, 60, PNG, 1, False)),
    'black.png': (encode(np.zeros((3, 4), np.uint8), 'PNG'), (3, 4, PNG, 1, True)),
}


def put(folder, files):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [str(folder / name) for name in files]


def upright(name, data):
    """What a person sees, in 8 bits, from Pillow and the values put in."""
    if name == 'deep.png':
        span = int(DEEP.max()) - int(DEEP.min())
        return np.rint((DEEP - DEEP.min().astype(float)) * 255 / span).astype(np.uint8)
    pixels = np.asarray(opened(data))
    return {'turned.jpg': lambda a: np.rot90(a, -1), 'turned.png': lambda a: a[::-1, ::-1]}.get(
        name, lambda a: a
    )(pixels)


def test_the_facts_of_each_image(tmp_path):
    paths = put(tmp_path, {name: data for name, (data, _) in FILES.items()})
    found = scan(paths, range(50, 57), Reading())
    assert found['row'].tolist() == list(range(50, 57)) and (found['problem'] == '').all()
    assert (found['frame'] == 0).all() and (found['frames'] == 1).all()
    for (name, (data, facts)), (_, row) in zip(FILES.items(), found.iterrows()):
        assert (row['size'], row['sha256']) == (len(data), hashlib.sha256(data).hexdigest())
        columns = ['height', 'width', 'format', 'orientation', 'grey']
        assert tuple(row[columns]) == facts, name
        seen = upright(name, data)
        seen = seen if seen.ndim == 3 else seen[..., None]
        assert row['mean'] == pytest.approx(luma(seen).mean(), abs=1e-6)
        assert row['deviation'] == pytest.approx(luma(seen).std(), abs=1e-6)
        assert row['perceptual_hash'] == (bytes(32) if seen.max() == 0 else hash_by_matrices(seen))


def test_the_facts_are_those_of_the_image_that_is_stored(tmp_path):
    (row,) = scan(
        put(tmp_path, {'a.png': FILES['colour.png'][0]}), [3], Reading(shorter_side=20)
    ).to_dict('records')
    assert (row['height'], row['width'], row['size']) == (20, 30, len(FILES['colour.png'][0]))


@pytest.mark.parametrize(
    ('data', 'problem'),
    [
        (None, 'no such file'),
        (b'', 'the file is empty (0 bytes)'),
        (b'image_path,label\n', 'not a JPEG, PNG or TIFF image'),
        (encode(COLOUR)[:-50], 'truncated: the end of the JPEG is missing'),
        (encode(COLOUR, 'PNG')[:-50], 'truncated: the end of the PNG is missing'),
        (encode(COLOUR, 'TIFF')[:3000], ''),
        (encode(COLOUR).replace(b'\xff\xdb', b'\xff\xfe'), 'does not decode'),
    ],
)
def test_a_file_that_cannot_be_used_is_a_problem_in_words(tmp_path, data, problem):
    files = {'fine.png': FILES['colour.png'][0], 'last.jpg': FILES['grey.jpg'][0]}
    paths = put(tmp_path, files if data is None else files | {'bad': data})
    paths = [paths[0], str(tmp_path / 'bad'), paths[1]]
    found = scan(paths, [4, 7, 9], Reading()).to_dict('records')
    assert [row['row'] for row in found] == [4, 7, 9]
    assert found[0]['problem'] == found[2]['problem'] == '' and found[2]['grey']
    said = found[1].pop('problem')
    assert said.startswith(problem) and 0 < len(said) < 160 and '\n' not in said
    assert found[1] == {'row': 7, 'frame': 0, 'frames': 1, **EMPTY}


def test_folders_and_odd_paths_are_problems_too(tmp_path):
    paths = [
        str(tmp_path),
        str(tmp_path / ('x' * 300)),
        str(tmp_path / 'a\0b'),
        str(tmp_path / 'a' / 'b'),
    ]
    found = scan(paths, range(4), Reading())
    assert (found['problem'] != '').all() and 'irectory' in found['problem'][0]
    with pytest.raises(ValueError, match='no such file'):
        read_source(paths[3])


def test_the_digest_is_sha_256():
    """Of 'abc', as FIPS 180-4 prints it."""
    assert digest(b'abc').startswith('ba7816bf8f01cfea414140de5dae2223b00361a396177a9c')


@pytest.fixture
def dicom():
    pytest.importorskip('pydicom', reason='DICOM files need pydicom')
    from tests.data.dicom_files import dicom

    return dicom


FILM = np.stack([smooth(20, 24, seed=i)[..., 0] for i in range(4)])


def test_every_frame_is_a_row(tmp_path, dicom):
    data = dicom(FILM, frames=4, WindowCenter=128, WindowWidth=256)
    paths = put(tmp_path, {'a.dcm': data, 'b.png': FILES['colour.png'][0]})
    found = scan(paths, [5, 6], Reading(split_frames=True))
    assert found[['row', 'frame', 'frames']].to_numpy().tolist() == [
        *([5, i, 4] for i in range(4)), [6, 0, 1]
    ]  # fmt: skip
    assert found['sha256'].tolist()[:4] == [hashlib.sha256(data).hexdigest()] * 4
    assert found['mean'].tolist()[:4] == pytest.approx(FILM.mean(axis=(1, 2)), abs=1e-6)
    refused = scan(paths, [5, 6], Reading())
    assert refused['problem'].tolist()[0].startswith('4 frames') and len(refused) == 2


def test_a_damaged_frame_does_not_lose_the_others(tmp_path, dicom):
    pytest.importorskip('gdcm', reason='the decoder of JPEG in DICOM is python-gdcm')
    from tests.data.dicom_files import film, grey_jpeg

    data = film([grey_jpeg(40), b'\xff\xd8no JPEG', grey_jpeg(200)])
    found = scan(put(tmp_path, {'a.dcm': data}), [0], Reading(split_frames=True))
    assert found[['row', 'frame', 'frames']].to_numpy().tolist() == [[0, i, 3] for i in range(3)]
    assert [problem == '' for problem in found['problem']] == [True, False, True]
