"""DICOM files: from their bytes to 8-bit pixels, large is bright (pip install 'big_ssl[dicom]').

Nothing but pixels and their geometry leaves this module: no message repeats a text of the file.
What could silently become another image is refused. PS3.3 is a part of the standard.
"""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8
from scipy.special import expit

from big_ssl.data.dicom_frames import (
    BIG_ENDIAN,
    PALETTE,
    Header,
    Refused,
    checked_header,
    numbers,
    read_samples,
)
from big_ssl.data.windows import FULL, MINMAX, Window
from big_ssl.errors import InputError

# X-ray angiography and fluoroscopy: their Modality LUT is not made for display.
_ANGIOGRAPHY = ('1.2.840.10008.5.1.4.1.1.12.1', '1.2.840.10008.5.1.4.1.1.12.2')


def is_dicom(data: bytes) -> bool:
    """Whether a file is in the DICOM format: 'DICM' at byte 128 (PS3.10 section 7.1)."""
    return data[128:132] == b'DICM'


def read_header(data: bytes, *, max_pixels: int) -> Header:
    """Checks what can be checked without the pixels.

    Args:
      data: the file.
      max_pixels: rows * columns * frames may not be more.

    Raises:
      ValueError: the file cannot be used, in one line.
      InputError: pydicom or python-gdcm is not installed.
    """
    with _quietly():
        return checked_header(_dataset(data, pixels=False), max_pixels)


def read_frame(
    data: bytes, frame: int, window: Window | None, *, max_pixels: int
) -> UInt8[np.ndarray, 'h w'] | UInt8[np.ndarray, 'h w 3']:
    """One frame, grey or (colour and palettes) RGB.

    Grey goes through modality (PS3.3 C.11.1) and VOI transform (C.11.2), whose range of output
    becomes 0 to 255; MONOCHROME1 is turned round. Pixel Padding (C.7.5.1.1.2) does not count for
    smallest and largest values and is black. Colour is as stored: no window, no ICC profile.

    Args:
      data: the file.
      frame: from 0.
      window: of grey. None: the file's first VOI LUT, else its first window, else 'minmax'.
        'full': all that its bits can be after the modality transform. 'values': modality values.
      max_pixels: as for `read_header`.

    Raises:
      ValueError: the file cannot be used, in one line.
      InputError: pydicom or python-gdcm is not installed.
    """
    with _quietly():
        dataset = _dataset(data, pixels=True)
        header = checked_header(dataset, max_pixels)
        if not 0 <= frame < header.frames:
            raise Refused(f'no frame {frame}: it has {header.frames}, counted from 0')
        stored = read_samples(dataset, header, frame)
        if header.samples == 3:
            return stored
        if header.photometric == PALETTE:
            return _palette(dataset, header)[stored]
        _take_groups(dataset, header, frame)
        return _grey(stored, dataset, header, window)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without pydicom's logs and warnings; what it raises becomes a line that repeats nothing."""
    logging.getLogger('pydicom').setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            yield
        except (Refused, InputError):
            raise
        except Exception as error:
            kind = type(error).__name__
            raise Refused(
                f'damaged, or not as the standard says ({kind}); export it anew'
            ) from None


def _dataset(data: bytes, *, pixels: bool) -> Any:
    if importlib.util.find_spec('pydicom') is None:
        raise InputError("DICOM files need pydicom: pip install 'big_ssl[dicom]'")
    from pydicom import dcmread

    if not is_dicom(data):
        raise Refused("not a DICOM file: no 'DICM' at byte 128; save it with preamble and header")
    return dcmread(io.BytesIO(data), stop_before_pixels=not pixels)


def _take_groups(dataset: Any, header: Header, frame: int) -> None:
    """Puts what an enhanced object says of one frame (PS3.3 C.7.6.16) where others say it."""
    shared = dataset.get('SharedFunctionalGroupsSequence') or ()
    own = dataset.get('PerFrameFunctionalGroupsSequence') or ()
    if own and len(own) != header.frames:
        raise Refused(f'{header.frames} frames, but functional groups of {len(own)}')
    for group in (*shared, *own[frame : frame + 1]):
        for name in ('PixelValueTransformationSequence', 'FrameVOILUTSequence'):
            for item in group.get(name) or ():
                dataset.update(item)


def _grey(
    stored: Int[np.ndarray, 'h w'], dataset: Any, header: Header, window: Window | None
) -> UInt8[np.ndarray, 'h w']:
    """The level of everything that the bits can hold, in float64; then that of each pixel."""
    every = np.arange(2**header.allocated)
    padding = _padding(dataset, header, every)
    seen = np.zeros(len(every), bool)
    seen[stored] = True
    values, limits = _modality(dataset, header, numbers(every, header, header.stored))
    shares = _shares(dataset, header, values, limits, seen & ~padding, window)
    levels = np.rint(255 * shares.clip(0, 1)).astype(np.uint8)
    if header.photometric == 'MONOCHROME1':
        levels = 255 - levels
    levels[padding] = 0
    return levels[stored]


def _padding(dataset: Any, header: Header, every: Int[np.ndarray, ' n']) -> Bool[np.ndarray, ' n']:
    """PS3.3 C.7.5.1.1.2; writers that fill all allocated bits with it are understood too."""
    value, limit = dataset.get('PixelPaddingValue'), dataset.get('PixelPaddingRangeLimit')
    if value is None:
        return np.zeros(len(every), bool)
    ends = np.array([value, value if limit is None else limit])
    low, high = np.sort(numbers(ends, header, 16))  # either VR can be there for either sign
    found = [numbers(every, header, bits) for bits in (header.stored, header.allocated)]
    return np.logical_or(*((low <= one) & (one <= high) for one in found))


def _modality(
    dataset: Any, header: Header, stored: Int[np.ndarray, ' n']
) -> tuple[Real[np.ndarray, ' n'], tuple[float, float]]:
    """Modality values (PS3.3 C.11.1), and the smallest and largest that there can be."""
    if sequence := dataset.get('ModalityLUTSequence'):
        if dataset.get('SOPClassUID') in _ANGIOGRAPHY:
            raise Refused(
                'its Modality LUT is not made for display; delete it to use stored values'
            )
        values, bits = _looked_up(stored, sequence[0].LUTDescriptor, sequence[0].LUTData, header)
        return values, (0, 2**bits - 1)
    slope, intercept = _number(dataset, 'RescaleSlope'), _number(dataset, 'RescaleIntercept')
    if slope is None and intercept is None:
        return stored, (stored.min(), stored.max())
    if not slope or intercept is None:
        raise Refused('Rescale Slope is missing or 0, or Rescale Intercept is missing')
    values = stored * slope + intercept
    return values, (values.min(), values.max())


def _shares(
    dataset: Any,
    header: Header,
    values: Real[np.ndarray, ' n'],
    limits: tuple[float, float],
    counted: Bool[np.ndarray, ' n'],
    window: Window | None,
) -> Float[np.ndarray, ' n']:
    """Where each value lies between black, 0, and white, 1."""
    if window is None:
        if sequence := dataset.get('VOILUTSequence'):
            item = sequence[0]
            entries, bits = _looked_up(values, item.LUTDescriptor, item.LUTData, header)
            return entries / (2**bits - 1)
        centre, width = _number(dataset, 'WindowCenter'), _number(dataset, 'WindowWidth')
        if centre is not None or width is not None:
            return _windowed(values, centre, width, dataset.get('VOILUTFunction') or 'LINEAR')
        window = Window(MINMAX)
    if window.kind == MINMAX:
        limits = (values[counted].min(), values[counted].max()) if counted.any() else (0, 0)
    elif window.kind != FULL:
        limits = (window.low, window.high)
    return _ramp(values, *limits)


def _windowed(
    values: Real[np.ndarray, ' n'], centre: float | None, width: float | None, function: str
) -> Float[np.ndarray, ' n']:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if centre is None or width is None or width <= 0:
        raise Refused('Window Center or Window Width is missing, or the width 0; give a window')
    if function == 'LINEAR':
        if width < 1:
            raise Refused('a LINEAR window of a width below 1; give a window')
        centre, width = centre - 0.5, width - 1
    elif function == 'SIGMOID':
        return expit(4 * (values - centre) / width)
    elif function != 'LINEAR_EXACT':
        raise Refused('its VOI LUT Function is not LINEAR, LINEAR_EXACT or SIGMOID; give a window')
    return _ramp(values, centre - width / 2, centre + width / 2)


def _ramp(values: Real[np.ndarray, ' n'], low: float, high: float) -> Float[np.ndarray, ' n']:
    if low == high:
        return (values > low).astype(np.float64)
    return (values - low) / (high - low)


def _looked_up(
    values: Real[np.ndarray, ' n'], descriptor: Sequence[int], data: Any, header: Header
) -> tuple[Int[np.ndarray, ' n'], int]:
    """The entries of a lookup table for `values`, and their bits (PS3.3 C.11.1.1, C.7.6.3.1.5)."""
    count, first, bits = (int(part) for part in descriptor)
    count = count % 2**16 or 2**16
    if values.min() < 0 and first >= 2**15:
        first -= 2**16  # the VR is that of unsigned numbers
    order = '>u2' if header.syntax == BIG_ENDIAN else '<u2'
    words = np.frombuffer(data, order) if isinstance(data, bytes) else np.atleast_1d(data)
    if bits == 8 and len(words) == (count + 1) // 2 != count:
        words = words.astype('<u2').view(np.uint8)[:count]
    if not 8 <= bits <= 16 or len(words) != count or not 0 <= words.min() <= words.max() < 2**bits:
        raise Refused('a lookup table is not as its descriptor says')
    return words.astype(np.int64)[np.rint(values - first).clip(0, count - 1).astype(np.int64)], bits


def _palette(dataset: Any, header: Header) -> UInt8[np.ndarray, 'n 3']:
    """RGB for everything that the bits can hold; of 16 bits the upper 8 (PS3.3 C.7.6.3.1.5)."""
    stored, columns = numbers(np.arange(2**header.allocated), header, header.stored), []
    for colour in ('Red', 'Green', 'Blue'):
        name = f'{colour}PaletteColorLookupTable'
        if f'{name}Descriptor' not in dataset or f'{name}Data' not in dataset:
            raise Refused('no palette, or one in segments; convert it to RGB')
        descriptor, data = dataset[f'{name}Descriptor'].value, dataset[f'{name}Data'].value
        entries, bits = _looked_up(stored, descriptor, data, header)
        columns.append(entries >> (bits - 8))
    if not np.any(columns):
        raise Refused('a palette that is black throughout: of fewer bits than it says?')
    return np.stack(columns, axis=-1).astype(np.uint8)


def _number(dataset: Any, name: str) -> float | None:
    """A decimal attribute: of several windows the first."""
    value = dataset.get(name)
    if value is None or value == '':
        return None
    found = np.atleast_1d(value).astype(np.float64)
    if not np.isfinite(found[0]) or (len(found) > 1 and not name.startswith('Window')):
        raise Refused(f'{name} is not a number, or several')
    return float(found[0])
