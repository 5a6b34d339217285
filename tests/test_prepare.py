"""The command line of `big_ssl.prepare`: what is wrong with the input, and being stopped."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tqdm import tqdm

from big_ssl import prepare
from big_ssl.data import records
from big_ssl.preparation import work
from tests.helpers import save, sixteen_bit_rgb_png, smooth, write_table

ROOT = Path(__file__).parent.parent
SPLITS = ('train', 'val', 'test')
GOOD = [(f'{i}.png', f'c{i // 2}', f'p{i // 4}', 'ab'[i // 4 % 2], SPLITS[i // 4 % 3])
        for i in range(12)]  # fmt: skip

pytestmark = pytest.mark.usefixtures('as_a_fresh_process')


def good_table(folder, rows=GOOD):
    for i in range(12):
        save(folder / f'{i}.png', smooth(24, 30, seed=i, noise=30))
    return write_table(folder / 'table.csv', rows)


def error_of(capsys, *arguments):
    """What `prepare` says before it exits with 2: one line."""
    assert prepare.main(['prepare', *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith('error: ')]
    assert err.splitlines()[-1] == line and not out
    return line.removeprefix('error: ')


def changed(row, **fields):
    """The good rows with one of them changed."""
    names = ('image_path', 'case_id', 'patient_id', 'label', 'split')
    rows = [list(each) for each in GOOD]
    for name, value in fields.items():
        rows[row][names.index(name)] = value
    return rows


TABLES = {  # what is wrong: rows or content of the table, flags, what is said
    'empty': (b'', [], 'table.csv: the file is empty'),
    'a header alone': (b'image_path,label\n', [], 'table.csv: a header and no rows'),
    'no path column': (b'path,label\na.png,x\n', [], "no column 'image_path'"),
    'no such column': (GOOD, ['--columns=label=dx'], "no column 'dx'"),
    'a column twice': (b'image_path,label,label\na,b,c\n', [], "column 'label' is there twice"),
    'a row twice': (changed(5, image_path='4.png'), [], 'row 7: image_path'),
    'a path twice': (changed(5, image_path='./x/../4.png'), [], 'row 7: image_path'),
    'climbing out': (changed(3, image_path='../3.png'), [], "row 5: image_path '../3.png' climbs"),
    'climbing late': (changed(3, image_path='a/../../3.png'), [], 'climbs out of'),
    'no path': (changed(3, image_path=''), [], "row 5: column 'image_path' is empty"),
    'a case of two': (changed(4, case_id='c0'), [], "row 6: case 'c0' belongs to patient 'p1'"),
    'a patient in two splits': (changed(1, split='test'), [], "row 3: patient 'p0' is in split"),
    'latin-1': ('image_path\nMüller.png\n'.encode('latin-1'), [], 'cannot be read as CSV in UTF-8'),
    'utf-16': ('image_path\na.png\n'.encode('utf-16'), [], 'cannot be read as CSV in UTF-8'),
    'an open quote': (b'image_path,label\na.png,"x\n', [], 'unexpected end of data'),
    'a long row': (b'image_path,label\na.png,x,y\n', [], 'row 2: 3 fields, but the header has 2'),
    'split all': (changed(11, split='all'), [], "a split may not be called 'all'"),
    'a split with a slash': (changed(0, split='a/b', patient_id='', case_id='z'), [],
                             "row 2: split 'a/b' cannot be the name of a file"),
    'no such further column': (GOOD, ['--keep_columns=age'], "no column 'age'"),
}  # fmt: skip


@pytest.mark.parametrize('wrong', TABLES)
def test_wrong_tables(tmp_path, capsys, wrong):
    content, flags, expected = TABLES[wrong]
    good_table(tmp_path, content if isinstance(content, list) else GOOD)
    if isinstance(content, bytes):
        (tmp_path / 'table.csv').write_bytes(content)
    arguments = [f'--manifest={tmp_path}/table.csv', f'--out={tmp_path}/set', *flags]
    message = error_of(capsys, *arguments)
    assert expected in message and f'{tmp_path}/table.csv' in message
    assert not list(tmp_path.glob('set*'))


@pytest.mark.parametrize(
    ('name', 'content'),
    [('t.parquet', b'PAR1 and no more'), ('t.csv.gz', b'\x1f\x8b\x08damaged'), ('t.tsv', b'')],
)
def test_damaged_tables(tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    message = error_of(capsys, f'--manifest={tmp_path}/{name}', f'--out={tmp_path}/set')
    assert f'{tmp_path}/{name}: ' in message


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def frames(path, **options):
    some = [Image.fromarray(smooth(20, 24, seed=i)) for i in range(3)]
    some[0].save(path, save_all=True, append_images=some[1:], **options)


def bomb(path):
    """A PNG whose header claims 100,000 x 100,000 pixels."""
    data = bytearray(path.read_bytes())
    data[16:24] = (100_000).to_bytes(4, 'big') * 2
    data[29:33] = __import__('zlib').crc32(data[12:29]).to_bytes(4, 'big')
    path.write_bytes(data)


def as_jpeg(path, **options):
    Image.open(path).convert('RGB').save(path, format='JPEG', **options)


IMAGES = {  # what is wrong: what makes it so, what is said
    'missing': (Path.unlink, 'no such file'),
    'zero bytes': (lambda path: path.write_bytes(b''), 'the file is empty (0 bytes)'),
    'text': (lambda path: path.write_text('Dear colleague'), 'not a JPEG, PNG or TIFF image'),
    'a folder': (lambda path: (path.unlink(), path.mkdir()), 'Is a directory'),
    'half a PNG': (cut, 'truncated'),
    'half a JPEG': (lambda path: (as_jpeg(path, quality=100), cut(path)), 'truncated'),
    'a head alone': (lambda path: path.write_bytes(path.read_bytes()[:20]), 'not a JPEG'),
    'CMYK': (lambda path: Image.new('CMYK', (9, 9)).save(path, format='JPEG'), 'CMYK pixels'),
    'a GIF': (lambda path: frames(path, format='GIF'), 'not a JPEG, PNG or TIFF image'),
    'an animated PNG': (lambda path: frames(path, format='PNG'), '3 frames; save it as one'),
    'a WebP': (lambda path: Image.open(path).save(path, format='WEBP'), 'not a JPEG, PNG or TIFF'),
    'pages': (lambda path: frames(path, format='TIFF'), '3 frames; save it as one still image'),
    'floats': (lambda path: Image.new('F', (9, 9)).save(path, format='TIFF'), 'F pixels'),
    'deep colour': (lambda path: path.write_bytes(sixteen_bit_rgb_png(np.ones((4, 5, 3)))),
                    '16 bits a channel in colour'),
    'a bomb': (bomb, 'more pixels than Pillow opens'),
    'a sum that is wrong': (lambda path: path.write_bytes(path.read_bytes()[:-30] + bytes(30)), ''),
}  # fmt: skip


@pytest.mark.parametrize('wrong', IMAGES)
def test_wrong_images(tmp_path, capsys, wrong):
    spoil, expected = IMAGES[wrong]
    table = good_table(tmp_path)
    spoil(tmp_path / '4.png')
    arguments = [f'--manifest={table}', f'--out={tmp_path}/set', '--workers=1']
    message = error_of(capsys, *arguments)
    assert message.startswith(f'{table} row 6: {tmp_path}/4.png: {expected}')
    assert message.endswith('--on_bad=skip leaves such images out')
    assert not (tmp_path / 'set').exists()
    assert prepare.main(['prepare', *arguments, '--on_bad=skip']) == 0
    assert pd.read_csv(tmp_path / 'set/rejected.csv')['listed_in'].tolist() == ['table.csv row 6']
    assert len(records.open_records(str(tmp_path / 'set'))) == 11


def test_paths_of_windows(tmp_path, capsys):
    good_table(tmp_path, changed(3, image_path='sub\\3.png'))
    message = error_of(capsys, f'--manifest={tmp_path}/table.csv', f'--out={tmp_path}/set',
                       '--workers=1')  # fmt: skip
    assert 'row 5: ' in message and 'no such file; here folders are separated by /' in message


FLAGS = [
    ([], 'give either --manifest=FILE or --source=NAME'),
    (['--manifest=M', '--source=scin', '--raw=.', '--out=O'], 'give either --manifest=FILE or'),
    (['--source=scin', '--out=O'], '--source=NAME and --raw=DIR go together'),
    (['--manifest=M', '--raw=.', '--out=O'], '--source=NAME and --raw=DIR go together'),
    (['--source=skin', '--raw=.', '--out=O'], "invalid choice: 'skin'"),
    (['--source=scin', '--raw=.', '--out=O', '--columns=label=x'], '--columns are for --manifest'),
    (['--manifest=M'], '--out is missing'),
    (['--manifest=M', '--out=O', '--shares=0.5,0.4'], '--shares=0.5,0.4: three numbers'),
    (['--manifest=M', '--out=O', '--shares=0.5,0.4,0.4'], 'that add up to 1'),
    (['--manifest=M', '--out=O', '--window=9,3'], '--window=9,3: LOW must be below HIGH'),
    (['--manifest=M', '--out=O', '--window=lung'], '--window=lung: give LOW,HIGH'),
    (['--manifest=M', '--out=O', '--columns=dx'], '--columns=dx: give image_path|case_id|'),
    (['--manifest=M', '--out=O', '--on_bda=skip'], 'unknown flag --on_bda, did you mean --on_bad?'),
    (['--manifest=M', '--out=O', '--on_bad=ignore'], "invalid choice: 'ignore'"),
    (['--manifest=M', '--out=O', '--workers=0'], '--workers=0: at least 1'),
    (['--manifest=M', '--out=O', '--workers=two'], "invalid int value: 'two'"),
    (['--manifest=M', '--out=O', 'stray'], 'unknown flag stray'),
    (['--manifest=no/such.csv', '--out=O'], 'no/such.csv: no such file'),
    (['--source=scin', '--raw=no/such', '--out=O'], 'no/such'),
]  # fmt: skip


@pytest.mark.parametrize(('flags', 'expected'), FLAGS)
def test_wrong_flags(capsys, flags, expected):
    assert expected in error_of(capsys, *flags)


def test_wrong_folders(tmp_path, capsys):
    table = good_table(tmp_path, [row[:4] for row in GOOD])
    (tmp_path / 'file').write_text('')
    (tmp_path / 'salt').write_text('short')
    for out, flags, expected in (
        ('file', [], 'is there already and is no record set'),
        ('file/set', [], 'file/set.partial'),
        ('set', ['--splits_from=elsewhere'], 'elsewhere: not a complete record set'),
        ('set', ['--hash_ids', f'--salt_file={tmp_path}/salt'], 'salt: a salt has at least 16'),
    ):
        message = error_of(capsys, f'--manifest={table}', f'--out={tmp_path}/{out}', '--workers=1',
                           *flags)  # fmt: skip
        assert expected in message


def test_help_says_where_each_set_is_had_and_under_what_terms(capsys):
    assert prepare.main(['prepare', '--help']) == 0
    text = capsys.readouterr().out
    for name in ('scin', 'ham10000', 'isic2019', 'pad_ufes_20', 'chexpert', 'chestxray14',
                 'mimic_cxr', 'padchest', 'eyepacs', 'cbis_ddsm', 'imagenet'):  # fmt: skip
        part = text[text.index(f'\n{name}: ') :]
        for word in ('from    http', 'terms   ', 'case    ', 'layout  '):
            assert word in part[: part.index('\n\n') if '\n\n' in part else None], (name, word)


def test_awkward_but_right(tmp_path):
    """BOM, mixed line ends, awkward ids and names, palettes, alpha, turned photographs, TIFF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = Image.fromarray(smooth(30, 40, noise=30))
    (tmp_path / 'ケース 1').mkdir()
    colour.save(tmp_path / 'ケース 1/größe, é.jpg', exif=exif, quality=95)
    colour.quantize(32).save(tmp_path / 'palette.png')
    Image.fromarray(smooth(20, 20, seed=5, noise=30)).convert('RGBA').save(tmp_path / 'a&b #1.png')
    Image.fromarray(smooth(21, 20, seed=6, noise=30)[..., 0]).save(tmp_path / "it's 100%.tif")
    text = (
        'image_path,case_id,patient_id,label,split\r\n'
        '"ケース 1/größe, é.jpg",lesion/1 a,Пациент 7,x,train\n'
        'palette.png,lesion/1 a,Пациент 7,x,train\r\n'
        '\r\n'
        'a&b #1.png,b\\2,p:3,"y, z",test\n'
        'it\'s 100%.tif,"c ""3""",—,y,val'
    )
    (tmp_path / 'table.csv').write_bytes(b'\xef\xbb\xbf' + text.encode())
    arguments = [f'--manifest={tmp_path}/table.csv', f'--out={tmp_path}/a set', '--workers=1']
    assert prepare.main(['prepare', *arguments]) == 0
    found = records.open_records(f'{tmp_path}/a set')
    assert found.case_id.tolist() == ['lesion/1 a', 'lesion/1 a', 'b\\2', 'c "3"']
    assert found.patient_id.tolist() == ['Пациент 7', 'Пациент 7', 'p:3', '—']
    assert found.label.tolist() == ['x', 'x', 'y, z', 'y']
    assert found.store.sizes.tolist() == [[40, 30], [30, 40], [20, 20], [21, 20]]
    assert found.where(2) == f'{tmp_path}/a set: table.csv row 5'


def start(*arguments, **options):
    command = [sys.executable, '-m', 'big_ssl.prepare', *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {'PYTHONPATH': str(ROOT)},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            **options)  # fmt: skip


def many(folder, count=1200):
    """A table of so many images that looking at them takes a while."""
    rows = [(f'{i}.jpg', f'c{i // 3}', f'p{i // 6}', 'ab'[i % 2], ('train', 'test')[i // 6 % 5 > 3])
            for i in range(count)]  # fmt: skip
    rng = np.random.default_rng(0)
    for name, *_ in rows:
        save(folder / name, rng.integers(0, 256, (150, 200, 3)).astype(np.uint8))
    return write_table(folder / 'table.csv', rows)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.long
def test_killed_at_random_moments_it_gives_the_same_bytes(tmp_path):
    table = many(tmp_path)
    flags = [f'--manifest={table}', '--workers=2', '--shard_mb=4']
    begun = time.monotonic()
    whole = start(*flags, f'--out={tmp_path}/whole')
    assert whole.wait(600) == 0, whole.stdout.read()
    seconds = time.monotonic() - begun
    out, draws, kills = tmp_path / 'set', random.Random(0), 0
    while kills < 5:
        process = start(*flags, f'--out={out}')
        try:
            process.wait((draws.uniform(0.2, 1.0) if kills else 0.3) * seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert records.is_record_set(str(out)) == out.exists()
    last = start(*flags, f'--out={out}')
    assert last.wait(600) == 0, last.stdout.read()
    assert kills and content(out) == content(tmp_path / 'whole')
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert left == ['set', 'whole']


def test_asked_to_stop_it_exits_with_75_and_two_at_once_are_refused(tmp_path):
    table = many(tmp_path, 400)
    flags = [f'--manifest={table}', '--workers=2', f'--out={tmp_path}/set']
    process = start(*flags)
    work = tmp_path / 'set.partial'
    while not (work / 'made_from.json').exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    second = start(*flags)
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 2 and 'another run is at work here' in output
    os.kill(process.pid, signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75, output
    assert 'stopped; run the same command again to go on' in output and 'Traceback' not in output
    assert not (tmp_path / 'set').exists()


def test_a_stop_is_heard_where_a_library_catches_exceptions(tmp_path, monkeypatch, capsys):
    """As tqdm does while it starts its thread."""

    def bar(**options):
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return tqdm(**options)

    monkeypatch.setattr(work, 'tqdm', bar)
    arguments = [f'--manifest={good_table(tmp_path)}', f'--out={tmp_path}/set', '--workers=1']
    assert prepare.main(['prepare', *arguments]) == 75
    assert capsys.readouterr().err.splitlines()[-1].startswith('stopped; run the same command')
    monkeypatch.undo()
    assert prepare.main(['prepare', *arguments]) == 0
