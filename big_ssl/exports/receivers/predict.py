"""Scores of the images in a folder, by the model beside this file, as a CSV.

    python predict.py IMAGE_FOLDER OUT.csv

Needs what requirements.txt says, and nothing else. Reads JPEG and PNG as preprocessing.json says:
upright, centre crop, resized, 8 bits; what the evaluation of the model refused is refused. One row
an image, in the order of the names; several images of one case are judged by the mean of their
scores.
"""

import csv
import json
import pathlib
import sys
import warnings

import numpy as np
import runtime
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ENDINGS = {'.jpg', '.jpeg', '.png'}
EIGHT_BIT = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA')
SIXTEEN_BIT = ('I;16', 'I;16B', 'I;16L', 'I;16N')
ORIENTATION = 0x0112  # the EXIF tag; what makes an image upright, by its number:
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
AT_ONCE = 32


def pixels(path, settings):
    """uint8 [size, size, 3] of an image file."""
    with Image.open(path, formats=('JPEG', 'PNG')) as image:
        check(image)
        image.load()
        image = upright(image)
        if image.mode in SIXTEEN_BIT:
            image = Image.fromarray(
                windowed(np.asarray(image).astype(np.uint16), settings['window'])
            )
        image = image.convert('RGB' if settings['channels'] == 3 else 'L')
    side = round(settings['crop'] * min(image.size))
    x, y = ((length - side + 1) // 2 for length in image.size)
    image = image.crop((x, y, x + side, y + side))
    size = settings['image_size']
    array = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
    return np.broadcast_to(array if array.ndim == 3 else array[..., None], (size, size, 3))


def check(image):
    """Refuses, before it is decoded, what would silently become something else."""
    frames = getattr(image, 'n_frames', 1)
    if frames > 1 and image.format != 'MPO':  # a phone's JPEG with its preview
        raise ValueError(f'{frames} frames; save it as one still image')
    if image.mode not in EIGHT_BIT + SIXTEEN_BIT:
        raise ValueError(f'{image.mode} pixels; convert it to grey or RGB')
    if image.mode in EIGHT_BIT and ';16' in str(image.tile):
        raise ValueError('16 bits a channel in colour; convert it to 8-bit RGB or 16-bit grey')


def upright(image):
    """A decoded image turned as EXIF says, or else XMP; damaged EXIF says nothing."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def windowed(values, window):
    """0 to 255 for 16-bit values: `full`, `minmax`, or those of black and white, as LOW,HIGH."""
    if not window:
        raise ValueError('16 bits a pixel; the model was trained on images of 8 bits')
    low, high = {'full': (0, 65535), 'minmax': (values.min(), values.max())}.get(window) or (
        float(number) for number in window.split(',')
    )
    low, high = np.float32(low), np.float32(high)
    scale = np.float32(255) / max(high - low, np.float32(1e-6))
    return np.rint(((values.astype(np.float32) - low) * scale).clip(0, 255)).astype(np.uint8)


def scores(outputs, labels):
    """What the CSV holds of each image: features as they are, logits as probabilities."""
    kind = labels['outputs']
    if kind in ('features', 'probabilities'):
        return outputs
    x = outputs.astype(np.float64)
    if kind == 'logits of classes that exclude one another':
        x = np.exp(x - x.max(axis=1, keepdims=True))
        return x / x.sum(axis=1, keepdims=True)
    if kind == 'three logits a class: negative, positive, uncertain':
        x = x.reshape(len(x), -1, 3)
        x = x[..., 1] - x[..., 0]
    return np.exp(-np.logaddexp(0, -x))


def main(folder, out):
    settings = json.loads((HERE / 'preprocessing.json').read_text(encoding='utf-8'))
    labels = json.loads((HERE / 'labels.json').read_text(encoding='utf-8'))
    found = pathlib.Path(folder).rglob('*')
    paths = sorted(p for p in found if p.suffix.lower() in ENDINGS and not p.is_dir())
    if not paths:
        return f'{folder}: no image that ends in {", ".join(sorted(ENDINGS))}'
    warnings.filterwarnings('ignore', module='PIL')  # of what it reads all the same
    run, rows = runtime.load(HERE), []
    for start in range(0, len(paths), AT_ONCE):
        some, images = paths[start : start + AT_ONCE], []
        for path in some:
            try:
                images.append(pixels(path, settings))
            except Exception as error:
                return f'{path}: {" ".join(str(error).split()) or type(error).__name__}'
        rows.extend(scores(run(np.stack(images)), labels))
    names = labels['classes'] or [f'feature_{i}' for i in range(len(rows[0]))]
    single = bool(labels['classes']) and not labels['several_at_once']
    with open(out, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['image_path', *names, *(['predicted'] if single else [])])
        for path, row in zip(paths, rows):
            predicted = [names[int(np.argmax(row))]] if single else []
            relative = path.relative_to(folder).as_posix()
            writer.writerow([relative, *(repr(float(x)) for x in row), *predicted])
    return None


if __name__ == '__main__':
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        problem = main(*sys.argv[1:])
    except OSError as error:  # of OUT.csv, or of the files beside this one
        problem = error
    if problem:
        print(f'error: {problem}', file=sys.stderr)
        sys.exit(2)
